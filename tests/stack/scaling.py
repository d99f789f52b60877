"""`python -m tests.stack.scaling [TAG]`: the life of a swarm of two machines once, with times and figures, as Markdown.

Needs root, and the images of that tag in this machine's engine (scripts/swarm build). Both machines are engines on this one, so what is
measured are ratios.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack.callers import Request
from tests.stack.cluster import PROJECT, Cluster, cluster
from tests.stack.conftest import QUESTION
from tests.stack.nodes import plug, pull, thin
from tests.stack.waiting import wait

CONVERSATIONS = 40
CLIENTS = 12  # so many that each takes seconds
SHARE = "0.4"  # of a core for each api where throughput is compared: what clients and gateway take must not be what they lack
Q8 = {"CLOISTER_MODEL__QUANT": "q8_0"}


def title(text: str) -> None:
    print(f"\n## {text}\n", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


def run(swarm: Cluster, *arguments: str, **more: str) -> None:
    """scripts/swarm on the first machine, as it is shown."""
    began = time.monotonic()
    said = swarm.swarm(*arguments, **more)
    shown = [line for line in said.splitlines() if line.startswith("cloister: ")]
    setting = "".join(f"{name}={value} " for name, value in more.items())
    hosts = {str(swarm.second.host): "ssh://root@second", str(swarm.first.host): "ssh://root@first"}
    text = "\n".join([f"$ {setting}scripts/swarm {' '.join(arguments)}", *shown])
    for socket, name in hosts.items():
        text = text.replace(socket, name)
    say(f"```\n{text}\n```\n{time.monotonic() - began:.0f} s.\n")


def summed(requests: list[Request], what: str) -> None:
    lost = [request for request in requests if request.failed]
    slowest = max(request.ended - request.began for request in requests)
    say(f"{what}: {len(requests)} requests of 3 clients that stream, {len(lost)} lost, the slowest took {slowest:.1f} s.")


@contextmanager
def under_load(swarm: Cluster, what: str) -> Iterator[None]:
    with swarm.load(3, 200) as requests:
        time.sleep(2)
        yield
        time.sleep(2)
    summed(requests, what)


def both(swarm: Cluster, within: float = 240) -> float:
    return wait(lambda: len(swarm.replicas()) == 2, within, swarm.explain)


def cached(swarm: Cluster, what: str) -> None:
    """The share of each turn's prompt that came from a cache."""
    turns = list(zip(*swarm.conversations(CONVERSATIONS), strict=True))
    shares = [f"{sum(cached for _, cached in turn) / sum(prompt for prompt, _ in turn):.0%}" for turn in turns]
    every = [one for turn in turns for one in turn]
    could = sum(earlier for conversation in zip(*turns, strict=True) for (earlier, _), _ in itertools.pairwise(conversation))
    again = sum(hit for turn in turns[1:] for _, hit in turn)
    total = sum(hit for _, hit in every) / sum(prompt for prompt, _ in every)
    say(f"| {what} | {' | '.join(shares)} | {total:.0%} | {again / could:.0%} |")


def throughput(swarm: Cluster, seconds: float = 20) -> float:
    """Answers' tokens a second of 8 clients, from the first machine's and the second one's counters."""
    with swarm.load(8, 100) as requests:
        time.sleep(seconds)
    whole = [request for request in requests if not request.failed]
    return 100 * len(whole) / (max(request.ended for request in whole) - min(request.began for request in whole))


def isolation(swarm: Cluster) -> None:
    said = swarm.run("verify-isolation", "--swarm").replace(swarm.second.host, "ssh://root@second")
    shown = [
        re.sub(r"[\w-]+ as uid 0: (.* closed).*", r"\1", line) for line in said.splitlines() if "closed" in line or "cloister: " in line
    ]
    say("\n".join(["```", "$ scripts/verify-isolation --swarm", *shown, "```"]))


def cable(swarm: Cluster) -> None:
    second = swarm.server(swarm.second)
    with swarm.load(CLIENTS, 1000) as requests:
        time.sleep(5)
        wait(lambda: swarm.running(second) > 1, 60, swarm.explain)
        pull(swarm.second)
        pulled = time.time()
        time.sleep(20)
    before = [request for request in requests if request.began < pulled < request.ended]
    cut, after = [request for request in before if request.failed], [request for request in requests if request.began >= pulled]
    say("| | |\n|---|---|")
    say(f"| streams that ran | {len(before)} |")
    after_pull = ", ".join(f"{request.ended - pulled:.1f}" for request in cut)
    say(f"| of these cut | {len(cut)}, of which {sum(request.told for request in cut)} got an error event, after {after_pull} s |")
    slow = max(request.ended - request.began for request in after)
    say(f"| begun after that | {len(after)}, of which {sum(request.whole for request in after)} whole, the slowest took {slow:.1f} s |")
    plug(swarm.second)
    say(f"\nThe cable is in again: the second machine gets work after {both(swarm):.0f} s.")


def story(swarm: Cluster) -> None:
    title("One machine")
    run(swarm, "up", "--plain", "--no-build", swarm.first.address)
    [message] = [
        choice["message"]
        for choice in swarm.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]})[1]["choices"]
    ]
    say(f"{QUESTION} → {message['content']}")
    title("A second one joins while three clients stream")
    asked = len(swarm.journal.read_text().splitlines())
    with under_load(swarm, "Meanwhile"):
        run(swarm, "join", swarm.second.host)
        say(f"It gets work {both(swarm):.0f} s after that.\n")
    more = len(swarm.journal.read_text().splitlines()) - asked
    digests = {swarm.digest(node) for node in (swarm.first, swarm.second)}
    say(f"Requests that the hub got: {asked} before, {more} since. sha256 of the model on both: {', '.join(digests)}.")
    title("What gets out")
    isolation(swarm)
    title(f"{CONVERSATIONS} conversations of 4 turns, 3 at a time: tokens of the prompts that came from a cache")
    say("| | turn 1 | turn 2 | turn 3 | turn 4 | all | of what an earlier turn had |\n|---|---|---|---|---|---|---|")
    cached(swarm, "by conversation")
    swarm.first.docker("service", "update", "--quiet", "--env-add", "BALANCER_AFFINITY=no", f"{PROJECT}_balancer")
    wait(lambda: len(swarm.replicas()) == 2, 60, swarm.explain)
    cached(swarm, "in turns (BALANCER_AFFINITY=no)")
    swarm.first.docker("service", "update", "--quiet", "--env-rm", "BALANCER_AFFINITY", f"{PROJECT}_balancer")
    both(swarm)
    title("Rolling updates while three clients stream")
    rolling(swarm)
    title("The second machine becomes an entry, and what passes answers on is replaced while three clients stream")
    swarm.open(swarm.second)
    for service in ("relay", "balancer", "gateway"):
        with under_load(swarm, f"Another {service} on both machines"):
            swarm.first.docker("service", "update", "--force", "--detach=false", "--quiet", f"{PROJECT}_{service}")
    title(f"The cable is pulled while {CLIENTS} clients stream")
    cable(swarm)
    title(f"Throughput, each api with {SHARE} of a core")
    grow(swarm)
    title("The second machine is away while the model changes, and comes back over a line of 40 Mbit/s")
    away(swarm)


def away(swarm: Cluster) -> None:
    pull(swarm.second)
    wait(lambda: swarm.state(swarm.second) == "down", 120, swarm.explain)
    run(swarm, "up", "--plain", "--no-build", CLOISTER_MODEL__QUANT="q6_k")
    thin(swarm.first, mbit=40)
    plug(swarm.second)
    took = wait(lambda: len(swarm.replicas()) == 2 and swarm.quants() == {"q6_k"}, 240, swarm.explain)
    digests = {swarm.digest(node) for node in (swarm.first, swarm.second)}
    say(f"{took:.0f} s after the cable is in again both answer. sha256 of the model on both: {', '.join(digests)}. Its api said:\n")
    said = swarm.second.docker("logs", swarm.container(swarm.second, "api"), check=False)
    say(
        "```\n" + "\n".join(line for line in said.splitlines() if " engine " in line and ("not here" in line or "loaded" in line)) + "\n```"
    )


def rolling(swarm: Cluster) -> None:
    swarm.later()
    began = swarm.images("api")
    with under_load(swarm, "Another image"):
        run(swarm, "up", "--plain", "--no-build", CLOISTER_TAG="later")
        wait(lambda: not set(swarm.images("api")) & set(began), 300, swarm.explain)
        both(swarm)
    with under_load(swarm, "Back"):
        run(swarm, "rollback")
        wait(lambda: swarm.images("api") == began, 300, swarm.explain)
        both(swarm)
    was = swarm.digest(swarm.first)
    with under_load(swarm, "Another quant of the model"):
        run(swarm, "up", "--plain", "--no-build", **Q8)
        wait(
            lambda: was not in (found := [swarm.digest(node) for node in (swarm.first, swarm.second)]) and len(set(found)) == 1,
            300,
            swarm.explain,
        )
        both(swarm)
    with under_load(swarm, "Back to the model before"):
        run(swarm, "up", "--plain", "--no-build")
        wait(lambda: {swarm.digest(node) for node in (swarm.first, swarm.second)} == {was}, 300, swarm.explain)
        both(swarm)


def grow(swarm: Cluster) -> None:
    second = swarm.second.identity()
    run(swarm, "up", "--plain", "--no-build", CLOISTER_API_CPUS=SHARE, CLOISTER_ENGINE__THREADS="1")
    both(swarm)
    say("| round | 1 replica | 2 replicas | ratio |\n|---|---|---|---|")
    for number in (1, 2, 3):
        two = throughput(swarm)
        swarm.first.docker("node", "update", "--label-rm", "cloister.api", second)
        wait(lambda: len(swarm.replicas()) == 1, 120, swarm.explain)
        one = throughput(swarm)
        swarm.first.docker("node", "update", "--label-add", "cloister.api=true", second)
        both(swarm)
        say(f"| {number} | {one:.0f} tokens/s | {two:.0f} tokens/s | {two / one:.2f} |")


def main() -> None:
    tag = sys.argv[1] if len(sys.argv) > 1 else "0.1.0"
    print("# A swarm's life\n\nMade by `python -m tests.stack.scaling`: two engines on a machine of 2 cores, a virtual cable, demo model.")
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), tag) as swarm:
        story(swarm)


if __name__ == "__main__":
    main()
