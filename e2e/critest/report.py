#!/usr/bin/env python3
"""report.py REPORT.json EXPECTED.txt...: prints the counts of a critest run and judges it.

EXPECTED.txt lists the cases that may not pass yet, below a line `== reason`. The run is bad (exit status 1) when a case
fails that is not listed, when a listed one passes, and when a listed one does not exist. Below a line `== skip: reason` are
cases that skip themselves; where a list has such a line, also an unlisted skip is bad, and a listed one that does not skip.
"""
import collections
import json
import sys


def name_of(case):
    return " ".join([*(case["ContainerHierarchyTexts"] or []), case["LeafNodeText"]]).strip()


def read_expected(paths):
    expected, reason = {}, None
    for line in (line.strip() for path in paths for line in open(path)):
        if line.startswith("=="):
            reason = line.strip("= ")
        elif line and not line.startswith("#"):
            expected[line] = reason
    return expected


def main():
    report, expected = json.load(open(sys.argv[1])), read_expected(sys.argv[2:])
    skips = {name for name, reason in expected.items() if reason.startswith("skip:")}
    skips_matter = any(line.startswith("== skip:") for path in sys.argv[2:] for line in open(path))
    states, messages, suite = {}, {}, []
    for case in report[0]["SpecReports"] or []:
        if case["LeafNodeType"] != "It":
            if case["State"] not in ("passed", "skipped"):
                suite.append(f"{case['LeafNodeType']}: {case.get('Failure', {}).get('Message', case['State'])}")
            continue
        name = name_of(case)
        # What a filter left out has no run time at all; what the case itself skipped has a message.
        filtered = case["State"] == "skipped" and not case.get("Failure", {}).get("Message")
        states[name] = "filtered" if filtered or case["State"] == "pending" else case["State"]
        messages[name] = case.get("Failure", {}).get("Message", "").strip()
    ran = {name: state for name, state in states.items() if state != "filtered"}
    passed = sorted(name for name, state in ran.items() if state == "passed")
    skipped = sorted(name for name, state in ran.items() if state == "skipped")
    failed = sorted(set(ran) - set(passed) - set(skipped))
    reasons = collections.Counter(messages[name].split("\n")[0] for name in skipped)
    for reason, count in sorted(reasons.items()):
        print(f"skipped: {count} cases: {reason}")
    bad = list(suite)
    for name in failed:
        reason = expected.get(name)
        print(f"failed: {name}" + (f"  ({reason})" if reason else ""))
        if not reason:
            bad.append(f"fails and is not listed: {name}\n    " + messages[name].replace("\n", "\n    "))
    bad += [f"is listed and passes: {name}" for name in passed if name in expected]
    if skips_matter:
        bad += [f"skips itself and is not listed: {name}" for name in skipped if name not in skips]
    bad += [f"is listed and unknown: {name}" for name in expected if name not in states]
    for line in bad:
        print(line)
    listed = sum(name in expected for name in failed)
    print(f"{len(passed)} passed, {len(failed)} failed ({listed} of them expected), {len(skipped)} skipped; {len(states) - len(ran)} not selected")
    sys.exit(1 if bad or not ran else 0)


if __name__ == "__main__":
    main()
