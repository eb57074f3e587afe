"""The online benchmark: the HTTP door beside the servers that people write without it.

`python -m benchmarks.online` compares, `python -m benchmarks.online.overload` asks for three times
what the door can do, `python -m benchmarks.online.soak` kills its replicas and swaps its banks. All
three write into results/online-cpu.json. `python -m benchmarks.online.gpu` asks the door in front
of a GPU and writes results/online-h200.json. The door is always a process tree of its own, and so
is the client.
"""
