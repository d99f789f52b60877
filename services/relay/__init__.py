"""The relay of a swarm: passes every request on to the balancer, and has the last word where an answer breaks off."""
