"""What train.py takes where neither another configuration file nor an argument says otherwise. Plain literals: it is read, never executed."""

# The model: "base" is a pre-norm decoder, "hc" the same with hyper-connections between n_streams residual streams.
model = "base"
n_layer = 6
n_head = 4
n_embd = 256
n_streams = 1
block_size = 256  # tokens of one window

# The text: "topics" ships with Python, "fineweb" are token files in $FINEWEB10B_LOCAL_DIR or $DATA_DIR, "auto" the latter if they are there.
dataset = "auto"
shards = 1  # files fineweb_train_*.bin to read, in the order of their names

# Optimisation
steps = 600
batch_size = 32  # windows of one step
learning_rate = 1e-3
warmup_steps = 40
min_lr_share = 0.1  # of learning_rate, at the last step
weight_decay = 0.1
beta1 = 0.9
beta2 = 0.95
grad_clip = 1.0  # norm of all gradients together; 0.0: none
seed = 1337

# Where and how often; 0: never
device = "auto"  # "cpu", "gpu", or whatever JAX finds first
out_dir = ""  # "": $GPUEVAL_RUN_DIR, or else out/
checkpoint_every = 100
eval_every = 200
eval_batches = 8
resume = False  # continue from the checkpoint in out_dir; also whenever $GPUEVAL_ATTEMPT is above 1

# Weights & Biases: a Python bool, since the text 'false' would be true
wandb_log = False
wandb_project = "fineweb10B"
