"""What a run would do, as JSON: what --plan writes and --apply compares. Knows no file, and carries nothing out. Pure.

A plan is not done from its file. The run plans again, and goes on only if that comes to the same: what is changed is
always what was looked at just now.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any

from .config.values import ChannelConfig
from .errors import UsageError
from .model import Side
from .plan import BoxPlan, Copy, Delete, Plan, SetFlags, Step, safe_order
from .report import Heads
from .report.jsonlines import head_values
from .report.printable import printable
from .stores import Store

NAME, VERSION = "mailsync-plan", 1
LARGEST = 256 * 1024 * 1024  # bytes of a file: a million steps
ANEW = "Make a new one with --plan."
FOR_READERS = frozenset({"from", "subject", "date"})  # of a step; and the number and the reasons in boxes, failed

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What shapes a plan beside the configuration: options, by their names on the command line, and the time."""

    only: tuple[str, ...] = ()  # patterns of boxnames; () = all
    no_delete: bool = False
    delete_empty: bool = False
    copy_deleted: bool = False
    push: bool = False
    pull: bool = False
    retry: bool = False
    allow_mass_delete: int | None = None
    id_type: str = "msgid"
    oldest: int | None = None  # what maxage and since came to when the plan was made, in seconds since the epoch

    @classmethod
    def options(cls) -> list[str]:
        """The names of those that are options."""
        return [field.name for field in fields(cls) if field.name not in ("only", "oldest")]


@dataclass(frozen=True, slots=True)
class Written:
    """A plan as a file has it."""

    channel: str
    asked: Asked
    values: Values


def described(
    plan: Plan,
    channel: ChannelConfig,
    stores: Mapping[Side, Store],
    asked: Asked,
    msinfo: str = "",
    heads: Callable[[BoxPlan], Heads] = lambda box: {},
) -> dict[str, Any]:
    """The plan as values for JSON; the same plan gives the same values, in the same order.

    `mailsync-plan`  the version of this format
    `channel`        its name
    `stores`         the two of it: `store` (name), `server`, `delete` (what a deletion is there)
    `options`        those of `Asked`
    `settings`       those of the channel that shape a plan, as the configuration has them
    `msinfo`         a digest of what was remembered
    `boxes`          those of the steps: `box`, `mailboxes` (its full names in the stores), `remains` (messages)
    `steps`          in a safe order, each with `step`, `box`, `store` (which it changes), and
                       rename: `from_box`
                       create, remove: nothing more
                       copy:   `id`, `uid` (in the other store), `flags`; if it is there in another box of the store,
                               and is not sent: `from_box`, `from_uid`; `rescues`: it was deleted there, and is wanted
                       move:   the same, and it is in that other box no longer
                       flags:  `id`, `uid`, `add`, `remove`
                       delete: `id`, `uid`, `why`; of a duplicate `stays`: the uid of the one that stays;
                               `marks`: only marked as deleted
    `held`           steps that are not done on purpose; `held` says why
    `failed`         boxes that cannot be looked at, and are left alone: `box`, `why`
    `left_out`       boxes that are not wanted: `box`, `why`

    Not compared, for people who read it: `remains`, the `why` of `failed`, `left_out`, and `from`, `subject` and `date`
    of a message, where `heads` has them. Bytes that are no UTF-8 stand as lone surrogates, `\\udcXX`. No secrets.
    """
    names = {side: stores[side].name for side in Side}
    tell = _Telling(names, heads)
    steps = [_of_box("rename", one.new, names[one.on]) | {"from_box": one.old} for one in plan.renames]
    held: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for box in plan.boxes:
        planned, kept = tell.box(box)
        steps += planned
        held += kept
        if box or kept:
            mailboxes = [stores[side].mailbox(box.boxname) for side in Side]
            boxes.append({"box": box.boxname, "mailboxes": mailboxes, "remains": box.remains})
    steps += [_of_box("remove", box.boxname, names[side]) for box in plan.boxes for side in box.remove]
    return {
        NAME: VERSION,
        "channel": channel.name,
        "stores": [_of_store(stores[side]) for side in Side],
        "options": asdict(asked) | {"only": list(asked.only)},
        "settings": _settings(channel, names),
        "msinfo": msinfo,
        "boxes": boxes,
        "steps": steps,
        "held": held,
        "failed": [{"box": name, "why": failure.why} for name, failure in sorted(plan.failed.items())],
        "left_out": [{"box": name, "why": why} for name, why in sorted(plan.left_out.items())],
    }


def differences(then: Values, now: Values) -> list[str]:
    """How what is planned now differs from what was planned then, in words: each a line; none if it does not."""
    then, now = _compared(then), _compared(now)
    lines = [f"channel {_shown(then['channel'])} is {_shown(now['channel'])}"] * (then["channel"] != now["channel"])
    for was, store in zip(then["stores"], now["stores"], strict=True):
        lines += _changed(f"store {_shown(was['store'])}: ", was, store)
    lines += _changed("option ", then["options"], now["options"])
    lines += _changed("setting ", then["settings"], now["settings"])
    lines += _other_steps([*then["steps"], *then["held"]], [*now["steps"], *now["held"]])
    lines += _other_mailboxes(then["boxes"], now["boxes"])
    lines += [f"{_shown(box)}: can be looked at now" for box in then["failed"] if box not in now["failed"]]
    lines += [f"{_shown(box)}: cannot be looked at now" for box in now["failed"] if box not in then["failed"]]
    if then["msinfo"] != now["msinfo"]:
        lines.append("msinfo is not as it was: a run has saved it since")
    return lines


# ---- as text ---------------------------------------------------------------------------------------------------------


def text(values: Values) -> str:
    """As a file has it: ASCII, with one step a line, and a digest that tells whether someone has changed it."""
    parts = []
    for name, value in {**values, "check": _check(values)}.items():
        shown = json.dumps(value)
        if isinstance(value, list) and value:
            shown = "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n ]"
        parts.append(f" {json.dumps(name)}: {shown}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def begins(head: bytes) -> bool:
    """True if a file that begins like this is a plan, which may be replaced by another."""
    return head.lstrip().removeprefix(b"{").lstrip().startswith(f'"{NAME}"'.encode())


def read(data: bytes, where: str) -> Written:
    """The plan in a file named `where`; UsageError if it is none that mailsync wrote, to the last step."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as err:
        what = "" if isinstance(err, RecursionError) else f": {err}"
        raise UsageError(f"{where} is no plan, for it is no JSON{what}", ANEW) from err
    if not isinstance(values, dict) or NAME not in values:
        raise UsageError(f"{where} is no plan that --plan has written", ANEW)
    if values[NAME] != VERSION:
        raise UsageError(f"{where} was written by another version of mailsync", ANEW)
    try:
        sound = values["check"] == _check(values)
        channel, asked = _text(values["channel"]), _asked(values["options"])
        _survey(values)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as err:
        raise UsageError(f"{where} was not written by mailsync alone: something in it is missing or odd", ANEW) from err
    if not sound:
        raise UsageError(f"{where} was changed after mailsync had written it; a plan cannot be edited", ANEW)
    return Written(channel, asked, values)


def _check(values: Values) -> str:
    data = json.dumps(_compared(values), sort_keys=True, separators=(",", ":"))
    return blake2b(data.encode(), digest_size=16).hexdigest()


def _survey(values: Values) -> None:
    """LookupError, TypeError or ValueError where `differences` would stumble."""
    [_, _] = values["stores"]
    differences(values, values)
    for step in (*values["steps"], *values["held"]):
        _in_words(step)
        _news(step)


def _asked(values: Values) -> Asked:
    """LookupError, TypeError or ValueError if they are none."""
    found = {name: values[name] for name in Asked.options()}
    numbers = [values["allow_mass_delete"], values["oldest"]]
    switches = [value for name, value in found.items() if name not in ("allow_mass_delete", "id_type")]
    if any(type(value) is not bool for value in switches) or any(type(n) not in (int, type(None)) for n in numbers):
        raise TypeError
    if found["id_type"] not in ("msgid", "md5"):
        raise ValueError
    return Asked(tuple(map(_text, values["only"])), **found, oldest=values["oldest"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


# ---- what is in it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Telling:
    """Tells the steps of a box."""

    names: Mapping[Side, str]
    heads: Callable[[BoxPlan], Heads]

    def box(self, box: BoxPlan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What is done, and what is held."""
        heads = self.heads(box)
        steps = [_of_box("create", box.boxname, self.names[side]) for side in box.create]
        steps += [self._step(box, step, heads) for step in sorted(box.steps(), key=_order)]
        kept = sorted(box.held(), key=lambda one: _order(one.step))
        held = [self._step(box, one.step, heads) | {"held": one.why} for one in kept]
        return steps, held

    def _step(self, box: BoxPlan, step: Step, heads: Heads) -> dict[str, Any]:
        lies_on = step.to.other if isinstance(step, Copy) else step.on
        kind, more = _details(step)
        step_of = _of_box(kind, box.boxname, self.names[step.on]) | {"id": step.entry.id, "uid": step.entry.uid}
        return step_of | more | head_values(heads.get((lies_on, step.entry.uid)))


def _of_box(kind: str, boxname: str, store: str) -> dict[str, Any]:
    return {"step": kind, "box": boxname, "store": store}


def _details(step: Step) -> tuple[str, dict[str, Any]]:
    match step:
        case Copy(flags=flags, near=near, rescues=rescues):
            more: dict[str, Any] = {"flags": sorted(flags)} | ({"rescues": True} if rescues else {})
            if near:
                more |= {"from_box": near.boxname, "from_uid": near.entry.uid}
            return "move" if near and near.goes else "copy", more
        case SetFlags(add=add, remove=remove):
            return "flags", {"add": sorted(add), "remove": sorted(remove)}
        case Delete(why=why, stays=stays, marks=marks):
            more = {"why": why.value} | ({"stays": stays} if stays is not None else {})
            return "delete", more | ({"marks": True} if marks else {})


def _order(step: Step) -> tuple[int, str, str, str]:
    return safe_order(step), step.on.value, step.entry.id, step.entry.uid


def _of_store(store: Store) -> dict[str, Any]:
    return {"store": store.name, "server": store.config.server, "delete": str(store.config.delete)}


def _settings(channel: ChannelConfig, names: Mapping[Side, str]) -> dict[str, Any]:
    def stores(sides: frozenset[Side]) -> list[str]:
        return [names[side] for side in Side if side in sides]

    return {
        "sizelimit": channel.sizelimit,
        "maxage": channel.maxage,
        "since": channel.since and channel.since.isoformat(),
        "exclude": list(channel.exclude),
        "duplicates": channel.duplicates.value,
        "expunge": "all" if channel.expunge_all else "own",
        "create": stores(channel.create),
        "direction": stores(channel.direction),
        "max_delete": str(channel.max_delete),
        "keep_deleted": channel.keep_deleted,
    }


# ---- how two of them differ ------------------------------------------------------------------------------------------


def _compared(values: Values) -> dict[str, Any]:
    """Without what is for readers only; as JSON gives it back, in which a tuple is a list."""
    kept = {name: values[name] for name in ("channel", "stores", "options", "settings", "msinfo")}
    kept["boxes"] = [{"box": one["box"], "mailboxes": one["mailboxes"]} for one in values["boxes"]]
    for name in ("steps", "held"):
        kept[name] = [{key: one[key] for key in one if key not in FOR_READERS} for one in values[name]]
    kept["failed"] = [one["box"] for one in values["failed"]]
    result: dict[str, Any] = json.loads(json.dumps(kept))
    return result


def _changed(what: str, then: Values, now: Values) -> list[str]:
    return [
        f"{what}{_shown(name)} was {_value(then.get(name))}, is {_value(now.get(name))}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def _other_mailboxes(then: Sequence[Values], now: Sequence[Values]) -> list[str]:
    """Of boxes that both have; where one has none, its steps tell."""
    was = {one["box"]: one["mailboxes"] for one in then}
    return [
        f"{_shown(one['box'])}: is {_value(one['mailboxes'])}, was {_value(was[one['box']])}"
        for one in now
        if one["mailboxes"] != was.get(one["box"], one["mailboxes"])
    ]


def _other_steps(then: Sequence[Values], now: Sequence[Values]) -> list[str]:
    new: dict[str, list[Values]] = {}
    for step in _missing(now, then):
        new.setdefault(_in_words(step), []).append(step)
    lines = []
    for step in _missing(then, now):
        words = _in_words(step)
        if new.get(words):
            lines.append(f"{words} {_otherwise(step, new[words].pop(0))}")
        else:
            lines.append(f"{words} is no longer {'held' if 'held' in step else 'planned'}")
    return lines + [f"{words} is {_news(step)}" for words, steps in new.items() for step in steps]


def _missing(some: Sequence[Values], others: Sequence[Values]) -> list[Values]:
    """Those of `some` that `others` have not, or not as often."""
    left = Counter(map(_canonical, others))
    missing = []
    for one in some:
        left[_canonical(one)] -= 1
        if left[_canonical(one)] < 0:
            missing.append(one)
    return missing


def _canonical(step: Values) -> str:
    return json.dumps(step, sort_keys=True)


def _in_words(step: Values) -> str:
    """Which step it is; of a message in no more detail than its id."""
    kind, store = step["step"], _shown(step["store"])
    where = f"{'to' if kind in ('copy', 'move') else 'in'} {store}"
    message = f" {_shown(step['id'])}" if "id" in step else ""
    return f"{_shown(step['box'])}: {_shown(kind)}{message} {where}"


def _news(step: Values) -> str:
    return f"held now: {_shown(step['held'])}" if "held" in step else "new"


def _otherwise(then: Values, now: Values) -> str:
    match then.get("held"), now.get("held"):
        case None, str(why):
            return f"is held now: {_shown(why)}"
        case str(), None:
            return "is held no longer"
    other = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(f"has {_shown(n)} {_value(now.get(n))}, had {_value(then.get(n))}" for n in other)


def _value(value: object) -> str:
    return printable(value) if isinstance(value, str) and value else json.dumps(value)


def _shown(text: object) -> str:
    return printable(_text(text))
