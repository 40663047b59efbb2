"""Functions run in processes of their own: an outcome for each call, and never a hang.

A worker that dies (killed for lack of memory, crashed in a library) is noticed at once through its sentinel. Messages
travel through pipes, so no shared memory is needed. Processes are spawned, never forked, on every system.
"""
