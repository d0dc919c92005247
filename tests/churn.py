"""Users at work in the mailboxes of one store, one change after the other, in a process of their own.

    python -m tests.churn FORMAT ROOT SIDE SEED CHANGES

What they do they tell as lines of JSON on stdout, each when it is done. A mail reader moves no message but those of its
side (odd numbers in a, even ones in b): so that it is known where each must be in the end. It ends after so many
changes, or when its stdin is closed.
"""

from __future__ import annotations

import faulthandler
import json
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .users import USERS, MboxUser, User

BOXES = ("x", "y")
KINDS = ("deliver", "deliver", "drop", "drop", "flag", "flag", "move", "tidy")  # as many come as go
Told = dict[str, object]
Tell = Callable[[Told], object]
PAUSE = 0.02  # seconds, at most: some changes come in a run, not thousands
FIRST = {"a": 1001, "b": 1002}  # numbers that a side delivers; each second one is free


def change(user: User, side: str, chance: random.Random, number: int) -> Told | None:
    """One change; None if it could not be made."""
    box = chance.choice(BOXES)
    match chance.choice(KINDS):
        case "deliver":
            return {"did": "deliver", "box": box, "number": number} if user.deliver(box, number) else None
        case "tidy":
            user.tidy(box)
            return None
        case did:
            there = user.numbers(box)
            if did == "move":
                there = [one for one in there if one % 2 == FIRST[side] % 2]
            if not there:
                return None
            chosen = chance.choice(there)
            told: Told = {"did": did, "box": box, "number": chosen}
            if did == "drop":
                return told if user.drop(box, chosen) else None
            if did == "flag":
                told["flag"] = chance.choice(user.flags)
                return told if user.flag(box, chosen, str(told["flag"])) else None
            told["to"] = {"x": "y", "y": "x"}[box]
            return told if user.move(box, chosen, str(told["to"])) else None


def work(user: User, side: str, seed: int, changes: int, tell: Tell, is_over: Callable[[], bool]) -> None:
    chance = random.Random(seed)
    number = FIRST[side]
    for _ in range(changes):
        if is_over():
            return
        if told := change(user, side, chance, number):
            number += 2 * (told["did"] == "deliver")
            tell(told)
        time.sleep(chance.uniform(0, PAUSE))


def main(format: str, root: str, side: str, seed: str, changes: str) -> None:
    faulthandler.enable()
    user = USERS[format](Path(root))
    if isinstance(user, MboxUser):
        user.wait = 20.0

    def is_over() -> bool:
        return bool(select.select([sys.stdin], [], [], 0)[0])

    work(user, side, int(seed), int(changes), lambda told: print(json.dumps(told), flush=True), is_over)


if __name__ == "__main__":
    main(*sys.argv[1:])
