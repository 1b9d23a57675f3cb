"""Asks /readyz until it says yes, for a minute: `helm test` runs this in a pod."""
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
        said = f"{url} says {error.code}: {error.read().decode()}"
    except OSError as error:
        said = f"{url} doesn't answer: {error}"
    if time.monotonic() > deadline:
        sys.exit(said)
    time.sleep(1)
