"""`python -m tests.fuzz [--seconds N] [--seed N --executions N] [--keep] [FILE…]`: look for what is taken badly."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random

from receiptd.interpret import interpret
from tests.fuzz import judge
from tests.fuzz.coverage import Coverage
from tests.fuzz.hunt import Hunt, minimised, steps
from tests.fuzz.judge import Interpreter

CORPUS = Path(__file__).parent / "corpus"
RECORDED = Path(__file__).parent.parent / "fixtures" / "reports"
FINDS = Path(__file__).parent.parent.parent / ".cache" / "fuzz" / "corpus"


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", help="go the same way each time, as long as the interpreter is the same")
    parser.add_argument("--executions", type=int, default=sys.maxsize, help="and no further than this")
    parser.add_argument("--keep", action="store_true", help="put what goes new ways into tests/fuzz/corpus")
    parser.add_argument("files", nargs="*", type=Path, help="judge these, and look no further")
    asked = parser.parse_args()
    return replay(asked.files) if asked.files else fuzz(asked)


def replay(files: Iterable[Path]) -> int:
    status = 0
    for file in files:
        wrong = judge.any_fault(file.read_bytes(), interpret)
        print(f"{file}: {wrong or 'taken well'}")
        status = 1 if wrong else status
    return status


def fuzz(asked: Namespace) -> int:
    coverage = Coverage("receiptd.interpret", beside=("receiptd.interpret.phrases",))
    marked: Interpreter = coverage.load().interpret
    hunt = Hunt(interpret, marked, coverage, Random(asked.seed))
    begun = time.monotonic()
    until = begun + float(asked.seconds)
    most = int(asked.executions)

    def goes_on() -> bool:
        return time.monotonic() < until and hunt.executions < most

    # With a seed nothing counts that an earlier hunt left here: the same must be looked at everywhere.
    found = hunt.begin(messages(RECORDED, CORPUS, *([] if asked.seed else [FINDS]))) or hunt.go(goes_on)
    if found:
        print(told(*found, FINDS.parent))
        return 1
    reached = len({mark for step in steps(hunt.seen) for mark in step} - {0})
    took = time.monotonic() - begun
    print(
        f"fuzz: nothing wrong; {hunt.executions} executions, {hunt.executions / took:.0f}/s; {reached} of"
        f" {coverage.marks} marks reached; {len(hunt.corpus)} messages go {len(hunt.seen)} ways"
    )
    if asked.keep or not asked.seed:
        known = messages(RECORDED, CORPUS)
        tries = 300 if asked.keep else 0
        for raw in minimised(hunt.corpus, known, lambda raw: coverage.ways(lambda: marked(raw)), tries):
            stored(CORPUS if asked.keep else FINDS, raw)
    return 0


def told(raw: bytes, wrong: str, folder: Path) -> str:
    """Store *raw* in *folder* and return in one line what is wrong, where it is, and how to see it again."""
    file = stored(folder, raw)
    return f"fuzz: {wrong}; {len(raw)} bytes in {file}; again: {sys.executable} -m tests.fuzz {file}"


def messages(*folders: Path) -> list[bytes]:
    return [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.eml"))]


def stored(folder: Path, raw: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{sha256(raw).hexdigest()[:12]}.eml"
    file.write_bytes(raw)
    return file


if __name__ == "__main__":
    sys.exit(main())
