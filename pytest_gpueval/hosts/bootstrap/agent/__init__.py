"""What looks at a host and makes its Python environments; one text with `hosts.detached.agent` and `hosts.sync.agent`. Python 3.8, the standard library.

ROOT/envs/KEY/              an environment, and .complete in it once it is; KEY.lock, KEY.log: what was said when it was made
ROOT/own/HASH/              this package as a wheel, and unpacked
ROOT/verified.json          files of data and models whose hashes were right, and how they looked then
"""
