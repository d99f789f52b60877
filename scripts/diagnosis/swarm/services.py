"""Is each service of the stack where it should be, what has failed lately, and how did the last change end."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.swarm.cluster import Cluster, excludes, moment, once, state, usable
from services.ui.told import Told

LATELY = 3600.0  # seconds
FAILED = ("failed", "rejected", "orphaned")
COMING = ("new", "pending", "assigned", "accepted", "ready", "preparing", "starting")
LIMITED = ("init", "api", "ui", "gateway")  # whose memory has a setting of that name
STATUS = "scripts/swarm status; docker service logs"


def examine(cluster: Cluster) -> list[Finding]:
    notes = Notes("services")
    if not cluster.services:
        notes.warn(f"nothing of the stack {cluster.stack} runs in this swarm", "scripts/swarm up; CLOISTER_PROJECT, if it has another name")
        return notes.all
    there, whole = [cluster.short(service) for service in cluster.services], []
    if lost := [name for name in cluster.declared if name not in there]:
        notes.bad(
            f"the stack was not made to its end, or is an older one: {', '.join(lost)} of swarm.yaml is not there", "scripts/swarm up"
        )
    for service in cluster.services:
        short = cluster.short(service)
        nodes = [node for node in cluster.wanted(service) if usable(node)]
        if not nodes and excludes(service):
            whole.append(f"{short} 0")
        elif not nodes:
            notes.bad(f"{short} runs nowhere: no node that is there has the label for it", "scripts/swarm up labels this one")
        elif (replicas := service.number("Spec", "Mode", "Replicated", "Replicas")) is not None:
            if _somewhere(cluster, service, int(replicas), notes):
                whole.append(f"{short} {replicas:.0f}")
        elif sum(_there(cluster, service, node, notes) for node in nodes) == len(nodes):
            whole.append(f"{short} {len(nodes)}")
        _failures(cluster, service, notes)
        _change(short, service, notes)
    if whole:
        notes.ok(f"as many run, or are done, as there should be: {', '.join(whole)}")
    return notes.all


def _there(cluster: Cluster, service: Told, node: Told, notes: Notes) -> bool:
    """Whether it is as it should be on that node."""
    short, name = cluster.short(service), cluster.name(node.text("ID"))
    task = cluster.latest(service, node.text("ID"))
    now, said = state(task), _said(task)
    if once(service):
        if now == "complete":
            return True
        if now == "running":
            notes.warn(f"{short} is at work on {name}: the model is being prepared there", f"wait, or see {STATUS} {cluster.stack}_{short}")
        elif now in COMING:
            notes.warn(f"{short} is coming up on {name} ({now})", "wait")
        else:
            todo = f"{STATUS} {cluster.stack}_{short}; then docker service update --force {cluster.stack}_{short}"
            notes.bad(f"{short} did not end its work on {name} ({now or 'no task'}{said})", todo)
        return False
    if now == "running" and task.text("DesiredState") == "running":
        image = service.text("Spec", "TaskTemplate", "ContainerSpec", "Image")
        if task.text("Spec", "ContainerSpec", "Image") == image or service.text("UpdateStatus", "State") == "updating":
            return True
        notes.warn(f"{short} on {name} is of an older image than the others", "scripts/swarm up")
    elif now in COMING:
        notes.warn(f"{short} is coming up on {name} ({now}{said})", f"wait; if it stays so: {STATUS} {cluster.stack}_{short}")
    else:
        notes.bad(f"{short} does not run on {name} ({now or 'no task'}{said})", f"{STATUS} {cluster.stack}_{short}")
    return False


def _somewhere(cluster: Cluster, service: Told, replicas: int, notes: Notes) -> bool:
    """Whether as many run of a service that may be on any of its nodes."""
    short, mine = cluster.short(service), [task for task in cluster.tasks if task.text("ServiceID") == service.text("ID")]
    wanted = [task for task in mine if task.text("DesiredState") in ("running", "ready")]
    running = [task for task in wanted if state(task) == "running"]
    if len(running) >= replicas:
        return True
    if coming := [task for task in wanted if state(task) in COMING]:
        said = _said(coming[0])
        notes.warn(f"{short} is coming up ({state(coming[0])}{said})", f"wait; if it stays so: {STATUS} {cluster.stack}_{short}")
        return False
    last = max(mine, key=lambda task: task.text("CreatedAt"), default=Told())
    found = f"{short} runs {len(running)} times instead of {replicas} ({state(last) or 'no task'}{_said(last)})"
    notes.bad(found, f"{STATUS} {cluster.stack}_{short}")
    return False


def _failures(cluster: Cluster, service: Told, notes: Notes) -> None:
    """What came back, so that nobody sees it, and why it had gone."""
    short = cluster.short(service)
    for node in cluster.nodes:
        newest = cluster.latest(service, node.text("ID")).text("ID")
        failed = [task for task in _lately(cluster, service, node.text("ID")) if state(task) in FAILED and task.text("ID") != newest]
        if failed:
            last = max(failed, key=lambda task: task.text("Status", "Timestamp"))
            found = f"{short} has failed {len(failed)} times within an hour on {cluster.name(node.text('ID'))}, last with{_said(last)[1:]}"
            memory = f"; for want of memory: CLOISTER_{short.upper()}_MEMORY" if short in LIMITED else ""
            notes.warn(found, f"docker service logs {cluster.stack}_{short}{memory}")


def _lately(cluster: Cluster, service: Told, node: str) -> Iterator[Told]:
    for task in cluster.tasks:
        if task.text("ServiceID") == service.text("ID") and task.text("NodeID") == node:
            when = moment(task.text("Status", "Timestamp"))
            if when is not None and cluster.now - when < LATELY:
                yield task


def _change(short: str, service: Told, notes: Notes) -> None:
    """How the last change of the service ended."""
    how, said = service.text("UpdateStatus", "State"), service.text("UpdateStatus", "Message")
    if how in ("paused", "rollback_paused"):
        todo = "repair what failed, then scripts/swarm up; docker service rollback goes back"
        notes.bad(f"the change of {short} was stopped on its way, so old and new run beside each other: {said}", todo)
    elif how == "rollback_completed":
        notes.warn(f"the last change of {short} failed and was taken back: {said}", "see why in docker service logs, then scripts/swarm up")
    elif how in ("updating", "rollback_started"):
        notes.warn(f"{short} is being replaced, one node at a time", "wait")


def _said(task: Told) -> str:
    """Why a task is not what it should be, to go on a sentence with."""
    error, code = task.text("Status", "Err"), task.number("Status", "ContainerStatus", "ExitCode")
    return f", {error}" if error else f", exit code {code:.0f}" if code else ""
