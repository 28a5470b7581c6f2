"""What somebody with PyTorch would do instead: a fixed network trained from scratch with the usual recipe.

Reads its task as a line of JSON: {units, outputs, resolution, packed: file of uint8 [N, R, R, 3], labels, train, test,
mean, std, seconds, threads, seed}. Trains for that many seconds of wall time (SGD with Nesterov momentum, cosine with warm-up,
weight decay, label smoothing, random shifts) on every image of `train`, and prints
{top1, epochs, seconds, version} for `test`. Augmentation and training take turns in one process, as with a DataLoader
without workers; its time counts, as ours does.
"""
import json
import math
import sys
import time

import numpy
import torch
import torch.nn.functional as F

from torch_net import Net

task = json.loads(sys.stdin.readline())
torch.manual_seed(task['seed'])
torch.set_num_threads(task['threads'])
R, batch = task['resolution'], 64
images = numpy.fromfile(task['packed'], dtype=numpy.uint8).reshape(-1, R, R, 3)
mean, std = (torch.tensor(task[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
labels = torch.tensor(task['labels'])
train, test = torch.tensor(task['train']), torch.tensor(task['test'])
net = Net(task['units'], task['outputs'], torch.channels_last)
plan = net.plan(task['units'])
decayed = [p for name, p in net.params.items() if name.endswith('.weight')]
others = [p for name, p in net.params.items() if not name.endswith('.weight')]
optimizer = torch.optim.SGD([{'params': decayed, 'weight_decay': 5e-4}, {'params': others}],
                            lr=0.1, momentum=0.9, nesterov=True)
shift = max(1, R // 8)


def batches():
    while True:
        order = train[torch.randperm(len(train))]
        for at in range(0, len(order) - batch + 1, batch):
            yield order[at:at + batch]


def augmented(chosen):
    """Random shifts over repeated borders."""
    padded = F.pad(x[chosen], [shift] * 4, mode='replicate')
    dx, dy = torch.randint(0, 2 * shift + 1, (2,)).tolist()
    return padded[:, :, dy:dy + R, dx:dx + R].contiguous(memory_format=torch.channels_last)


began = time.monotonic()
steps, source = 0, batches()
while True:
    done = (time.monotonic() - began) / task['seconds']
    if done >= 1:
        break
    rate = 0.1 * (done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95)))
    for group in optimizer.param_groups:
        group['lr'] = rate
    chosen = next(source)
    loss = F.cross_entropy(net.forward(plan, augmented(chosen)), labels[chosen], label_smoothing=0.1)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.params.values(), 5)
    optimizer.step()
    steps += 1

with torch.inference_mode():
    form = torch.channels_last
    calibration = [x[part].contiguous(memory_format=form) for part in train.split(100)]
    ready = net.calibrated(plan, calibration, False)
    logits = torch.cat([net.infer(ready, x[part].contiguous(memory_format=form)) for part in test.split(100)])
print(json.dumps({
    'top1': (logits.argmax(1) == labels[test]).float().mean().item(),
    'epochs': steps * batch / len(train), 'seconds': time.monotonic() - began,
    'version': f'PyTorch {torch.__version__}',
}))
