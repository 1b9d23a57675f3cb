"""
The replay: a writer beside the bridge that carries dead letters to the jobs' topic.

As in `bridge.service` the rooms meet here. Nothing of it runs in the bridge itself.
"""

from bridge.replay.run import Replayed, directory_of, replay


__all__ = ["Replayed", "directory_of", "replay"]
