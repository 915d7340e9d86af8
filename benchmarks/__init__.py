"""Speed and accuracy of sharpcli beside its peers, measured side by side in one run.

    python -m benchmarks [--quick] [--json FILE]        # or: make bench

`__main__` checks the words and sets up the environment, `session` is the run, `worker` one measurement in a process of its
own. A new net is a new file in nets/, a new peer one in tools/; nothing is registered.
"""
