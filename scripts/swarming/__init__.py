"""Makes swarm.yaml, what `docker stack deploy` takes, of compose.yaml, so that one machine and several run the same."""
