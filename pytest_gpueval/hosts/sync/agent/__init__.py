"""What keeps code on the host. It is sent with each request, as `hosts.detached.agent` is, and with parts of that: Python 3.8, the standard library.

    ROOT/lock                   held while snapshots are made or removed
    ROOT/snapshots/NAME/        a tree as it was when it was sent; NAME begins with the tree's hash. Nobody writes there but who runs there
    ROOT/index/NAME.json        what was put there, and how it looked then
    ROOT/current                a link to the snapshot that was asked for last
    ROOT/incoming/HASH/         a tree that is on its way; HASH.json: the list of its files. What is shorter there than in the list has come in part
    ROOT/envs/                  Python environments: `hosts.bootstrap`

A snapshot appears by one rename, whole, and then never changes: who runs in one runs the code as it was. A request that is cut off leaves files behind,
which the next one need not send.
"""
