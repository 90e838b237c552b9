"""The cases of the Autobahn TestSuite, past Weft and through it.

usage: websocket.py DIRECT WEFT, each HOST:PORT; the last line is `PASSED n/m`.

What is judged is Weft: a case that the service passes by itself must pass through Weft with the same
verdict, on the messages and on the close. Cases that the service itself fails are shown.

Some cases send a good message and a broken one after it, and a service that gets both in one segment
answers neither; whether it does is chance on both ways. So a case whose verdict differs is asked again.
"""

import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient

# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and large messages. Left out are
# messages in tens of thousands of fragments, which are a matter of the service's time, and all but one
# case of compression, which Weft relays without a look at it and which take many minutes.
CASES = [*(f"{group}.*" for group in range(1, 8)), *(f"9.{part}.*" for part in (1, 2, 5, 6, 7, 8))]
CASES += ["10.*", "12.1.1"]
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")
GOOD_CLOSE = ("OK", "INFORMATIONAL")


# How often a case is asked whose verdict differs.
TRIES = 5


async def verdicts(address, cases=CASES):
    try:
        results = await run_fuzzingclient(f"ws://{address}", cases, concurrency=8)
    except FailureError as failure:
        results = failure.results
    return {result.case_id: (result.behavior.value, result.behavior_close.value) for result in results}


def passes(verdict):
    return verdict[0] in GOOD and verdict[1] in GOOD_CLOSE


async def main():
    service, weft = sys.argv[1:3]
    direct, through = await verdicts(service), await verdicts(weft)
    for _ in range(TRIES - 1):
        differing = [case for case in direct if passes(direct[case]) and through.get(case) != direct[case]]
        if not differing:
            break
        print("asked again:", *differing, flush=True)
        through |= await verdicts(weft, differing)
    passed = count = 0
    for case, verdict in direct.items():
        if not passes(verdict):
            print("the service itself fails", case, *verdict, flush=True)
            continue
        count += 1
        if through.get(case) == verdict:
            passed += 1
        else:
            print("FAILED", case, "directly", *verdict, "through Weft", through.get(case), flush=True)
    print(f"PASSED {passed}/{count}")
    # Nothing asked is nothing passed.
    return passed == count and count > 270


well = asyncio.run(main())
sys.stdout.flush()
# Threads of the runner would break off the interpreter's own way out.
os._exit(not well)
