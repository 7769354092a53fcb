"""python -m tests.chaos: a run from a seed; exit 1 where a promise was broken.

With `--bugs` each seeded bug spoils a run of its own, and the exit status is 1 where the oracle finds one of them not.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from dataclasses import fields

from tests.chaos.run import Outcome, Plan, run
from tests.chaos.seeded_bugs import BUGS

_SHORT = ("--messages", "100", "--kills", "4", "--seconds", "12", "--within", "6", "--calm", "30")


def main() -> int:
    options = vars(_arguments())
    if options.pop("bugs"):
        return _hunt(options["seed"] or 3)
    plan = Plan(**{name: value for name, value in options.items() if value is not None})
    print(
        f"seed {plan.seed}: {plan.kills} kills over {plan.messages} messages, {plan.daemons} daemon(s), {plan.engine}"
    )
    outcome = asyncio.run(run(plan, say=lambda text: print(text, flush=True)))
    _tell(outcome)
    return 1 if outcome.violations or outcome.journal.oddities else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    for field in fields(Plan):
        kind = {"int": int, "float": float}.get(str(field.type), str)
        parser.add_argument(f"--{field.name}", type=kind, help=f"default: {field.default}")
    parser.add_argument("--bugs", action="store_true", help="show that every seeded bug is found")
    return parser.parse_args()


def _hunt(seed: int) -> int:
    """Run each seeded bug, all at once, and say what the oracle found."""
    command = [sys.executable, "-m", "tests.chaos", *_SHORT, "--seed", str(seed), "--bug"]
    runs = {bug: subprocess.Popen([*command, bug], stdout=subprocess.PIPE, text=True) for bug in BUGS}
    missed = 0
    for bug, running in runs.items():
        said = running.communicate()[0]
        found = [line for line in said.splitlines() if line.startswith("VIOLATION")]
        kinds = {line.partition(") ")[2].partition(":")[0] for line in found}
        is_found = running.returncode == 1 and bool(kinds & BUGS[bug])
        missed += not is_found
        print(
            f"{bug}: {'found' if is_found else 'NOT FOUND'}, {len(found)} violations shown ({', '.join(sorted(kinds))})"
        )
        print(f"  {found[0]}" if found else said)
    return 1 if missed else 0


def _tell(outcome: Outcome) -> None:
    journal = outcome.journal
    for violation in outcome.violations[:40]:
        print(f"VIOLATION (seed {outcome.plan.seed}) {violation}")
    if len(outcome.violations) > 40:
        print(f"... and {len(outcome.violations) - 40} more")
    for oddity in journal.oddities[:20]:
        print(f"ALSO SEEN (seed {outcome.plan.seed}) {oddity}")
    taken = [one for one in journal.transactions if one.taken]
    doubles = len(taken) - len({one.return_path for one in taken})
    print(f"faults: {', '.join(f'{what} {number}' for what, number in journal.counts().items())}")
    print(
        f"{len(journal.letters)} letters, {len(journal.transactions)} transactions, {len(taken)} copies taken "
        f"({doubles} a second time), {len(journal.reports)} reports, {len(journal.posts)} webhook posts"
    )
    print(
        f"{outcome.kills} kills in {outcome.stormy:.0f} s of storm, {outcome.calm:.0f} s of calm: "
        f"{len(outcome.violations)} violations {dict(outcome.kinds)}, {len(journal.oddities)} other oddities"
    )
    if outcome.violations or journal.oddities:
        print(f"evidence: {outcome.folder}")


if __name__ == "__main__":
    sys.exit(main())
