"""Polls /readyz until the bridge is ready: `helm test` runs this in a pod."""
# ruff: noqa: INP001, S310, T201 - a script for the pod's log; its caller names the URL

import sys
import time
import urllib.error
import urllib.request


url = sys.argv[1]
deadline = time.monotonic() + float(sys.argv[2])
while True:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            print(answer.read().decode())
        break
    except urllib.error.HTTPError as error:
        # The body names each check.
        problem = f"{url} returned {error.code}: {error.read().decode()}"
    except OSError as error:
        problem = f"{url} doesn't respond: {error}"
    if time.monotonic() > deadline:
        sys.exit(problem)
    time.sleep(1)
