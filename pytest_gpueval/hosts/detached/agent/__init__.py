"""What runs on the host: launches runs, and tells, reads and ends them.

It is sent with each request as one text (`bundle`), and lies beside each run as its runner.
The standard library alone, Python 3.8: a bare host can run it. Its modules import each other by `from .x import y` on one line, which `bundle` takes out.

    ROOT/RUN_ID/                 command.sh, stdout.log, log.md, and what the command writes there
    ROOT/RUN_ID/.gpueval/        lock; claim.json: what was asked for, and the nonce that marks every process of it
    ROOT/RUN_ID/.gpueval/NONCE/  agent.py; runner.json: who runs it; started.json; stop.json; exit.json; results.txt
                                 of Slurm: job.json; over.json: what Slurm said in the end; secrets.json; attempt-2/, ...: the same of later attempts

A run starts once: a claim is made under the lock and in one step, and of all runners of a claim the one that makes runner.json goes on. So a submit that was
cut off anywhere is made good by submitting again. Secrets come with the request, and are in the environment of processes alone; what the command prints of
them is blotted out.

A run of Slurm is one job, whose name holds the nonce; it is looked for before it is submitted. A batch job gets its secrets from no pipe: they are in a file
of mode 0600 in a directory of mode 0700, written before sbatch. Its runner removes it as it starts where the job may not be requeued; else another attempt
needs it, and it stays until the runner says how the command ended, or a stop or a status sees that the job is over.
"""
