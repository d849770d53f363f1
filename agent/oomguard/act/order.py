"""Write what the helper is to do: a request to a declared hook, as one message of the channel."""

from __future__ import annotations

import os

from oomguard.act.channel import Message
from oomguard.act.hooks import Hook, Request
from oomguard.act.processes import start_ticks
from oomguard.decide.plan import SERVER_KINDS, HookPlan
from oomguard.errors import HelperError

PIDS_MAX = 1024     # keeps a message within 64 KiB; larger targets want a command hook of their own


def write_order(ticket: int, hook: Hook, request: Request, root: str, is_dry_run: bool) -> Message:
    """Return the helper's order. Raises HelperError where the hook cannot serve this request."""
    plan = hook.plan
    if plan is None:
        raise HelperError(f"hook {hook.name} is not declared in a plan")
    order: Message = {"do": plan.kind, "ticket": ticket, "is_dry_run": is_dry_run}
    if plan.kind == "command":
        order |= {"argv": list(plan.argv), "environment": environment(request), "user": plan.user,
                  "deadline_s": request.deadline_s}
    elif plan.kind == "signal":
        order |= {"signal": plan.signal, "processes": _processes(plan, request)}
    elif plan.kind == "reclaim":
        order |= {"folder": _folder(request.cgroup, root), "deadline_s": request.deadline_s,
                  "wanted_bytes": None if request.release_all else request.needed_bytes}
    elif plan.kind in SERVER_KINDS:
        order |= _server(plan, request)
    else:
        raise HelperError(f"hook {hook.name}: {plan.kind!r} is nothing that the helper does")
    return order


def environment(request: Request) -> dict[str, str]:
    """Return how a command hook is told of its request."""
    told = {
        "OOMGUARD_LEVEL": str(request.level),
        "OOMGUARD_NEEDED_BYTES": "all" if request.release_all else str(request.needed_bytes),
        "OOMGUARD_REASON": request.reason.replace("\0", " ")[:1000],
        "OOMGUARD_TARGET": request.target,
        "OOMGUARD_DEADLINE_S": f"{request.deadline_s:g}",
        "OOMGUARD_PIDS": " ".join(str(pid) for pid in request.pids[:PIDS_MAX]),
    }
    return told | ({"OOMGUARD_RATIO": f"{request.ratio:g}"} if request.ratio == request.ratio else {})


def _server(plan: HookPlan, request: Request) -> Message:
    return {
        "address": plan.address, "user": plan.user, "password_file": plan.password_file, "policy": plan.policy,
        "level": request.level, "needed_bytes": request.needed_bytes, "release_all": request.release_all,
        "ratio": request.ratio if request.ratio == request.ratio else None, "deadline_s": request.deadline_s,
        "reason": request.reason[:1000], "target": request.target,
        "processes": _with_starts(request) if plan.kind == "jvm" else [],
    }


def _processes(plan: HookPlan, request: Request) -> list[list[int]]:
    if not request.pids:
        raise HelperError(f"no process to send {plan.signal} to")
    return _with_starts(request)


def _with_starts(request: Request) -> list[list[int]]:
    pids = request.pids[:PIDS_MAX]
    starts = request.pid_starts[:PIDS_MAX] or tuple(start_ticks(pid) for pid in pids)
    return [[pid, started] for pid, started in zip(pids, starts, strict=True)]


def _folder(cgroup: str, root: str) -> str:
    """Return a cgroup's folder in the hierarchy that has its memory files: v2, hybrid, or v1."""
    parts = [part for part in cgroup.split("/") if part]
    if not cgroup or ".." in parts:
        raise HelperError("the target has no cgroup to reclaim from")
    folders = [os.path.join(root, "sys/fs/cgroup", base, *parts) for base in ("", "unified", "memory")]
    for folder in folders:
        if os.path.exists(f"{folder}/memory.stat"):
            return folder
    return folders[0]
