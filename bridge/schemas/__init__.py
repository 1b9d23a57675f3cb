"""
What readers of the bridge's topics can rely on: six JSON Schemas, an AsyncAPI document.

    python -m bridge.schemas            writes schemas/ and the tables of the page
    python -m bridge.schemas --check    reports what is stale and exits with 1
"""
