"""Tasks other than classification as somebody with PyTorch would do them: a fixed network from random weights, with the
recipe that the task is usually trained with.

Reads a line of JSON: {task, units, outputs, width, height, packed: file of uint8 [N, H, W, 3], labels (null: not known),
cameras, train, test, mean, std, seconds or passes (images), threads, seed, out}. Trains for so many seconds of wall time or
image passes, writes what the network makes of `test` to `out` (float32 rows), and prints {epochs, seconds, version}.

- age-estimation: softmax over 101 years, cross-entropy with mean and variance losses (Pan et al., CVPR 2018: 0.2, 0.05).
- gender-recognition: cross-entropy weighted by inverse frequency.
- re-identification: BNNeck, label-smoothed cross-entropy and batch-hard triplets (margin 0.3), P x 4 images, Adam (3.5e-4,
  warm-up), random erasing (Luo et al., CVPRW 2019); the answer is the feature behind the neck.
- source-only: cross-entropy on the source; statistics of the source. minimum-class-confusion: with MCC (Jin et al., ECCV
  2020, T = 2.5) on the target in one batch with the source.
"""
import json
import math
import sys
import time

import numpy
import torch
import torch.nn.functional as F

from torch_net import EPSILON, Net

job = json.loads(sys.stdin.readline())
task, seed = job['task'], job['seed']
torch.manual_seed(seed)
torch.set_num_threads(job['threads'])
H, W, batch = job['height'], job['width'], 64
images = numpy.fromfile(job['packed'], dtype=numpy.uint8).reshape(-1, H, W, 3)
mean, std = (torch.tensor(job[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
labels = torch.tensor([math.nan if label is None else label for label in job['labels']])
train, test = torch.tensor(job['train']), torch.tensor(job['test'])
known = train[~labels[train].isnan()]
target = train[labels[train].isnan()]
reid, age = task == 're-identification', task == 'age-estimation'
net = Net(job['units'], job['outputs'], torch.channels_last)
plan = net.plan(job['units'])
if reid:
    del net.params['classifier.bias']
    net.params['neck.gamma'] = torch.nn.Parameter(torch.ones(job['units'][-1]['layers'][-1]['channelsOut']))
decayed = [p for name, p in net.params.items() if name.endswith('.weight')]
others = [p for name, p in net.params.items() if not name.endswith('.weight')]
groups = [{'params': decayed, 'weight_decay': 5e-4}, {'params': others}]
peak = job.get('rate') or (3.5e-4 if reid else 0.1)
optimizer = (torch.optim.Adam(groups, lr=peak) if reid
             else torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True))
flips = task in ('age-estimation', 'gender-recognition', 're-identification')
shift_x, shift_y = max(1, W // 8), max(1, H // 8)


def shuffled(indices, size):
    while True:
        order = indices[torch.randperm(len(indices))]
        for at in range(0, len(order) - size + 1, size):
            yield order[at:at + size]


def identities(indices, size, each=4):
    """P identities of `each` images."""
    own = {}
    for index in indices.tolist():
        own.setdefault(labels[index].item(), []).append(index)
    groups = [torch.tensor(members) for members in own.values()]
    while True:
        order = torch.randperm(len(groups)).tolist()
        for at in range(0, len(order) - size // each + 1, size // each):
            drawn = []
            for g in order[at:at + size // each]:
                members = groups[g]
                enough = members[torch.randperm(len(members))].repeat(each)[:each]
                drawn.append(enough)
            yield torch.cat(drawn)


def augmented(chosen):
    """Random shifts over repeated borders; mirrors and erased rectangles where the task allows."""
    padded = F.pad(x[chosen], [shift_x, shift_x, shift_y, shift_y], mode='replicate')
    dx = int(torch.randint(0, 2 * shift_x + 1, ()))
    dy = int(torch.randint(0, 2 * shift_y + 1, ()))
    y = padded[:, :, dy:dy + H, dx:dx + W].contiguous(memory_format=torch.channels_last)
    if flips:
        y = torch.where((torch.rand(len(y)) < 0.5).view(-1, 1, 1, 1), y.flip(3), y)
    if reid:
        for image in y:
            if torch.rand(()) < 0.5:
                area, ratio = H * W * (0.02 + 0.31 * torch.rand(()).item()), 3.3 ** (2 * torch.rand(()).item() - 1)
                h, w = min(H, round(math.sqrt(area * ratio))), min(W, round(math.sqrt(area / ratio)))
                top, left = int(torch.randint(0, H - h + 1, ())), int(torch.randint(0, W - w + 1, ()))
                image[:, top:top + h, left:left + w] = 0
    return y


def features_of(images, apply=None, ready=None):
    value = images
    for residual, layers in ready or plan:
        y = value
        for layer in layers:
            y = apply(layer, y) if apply else layer.with_batch_statistics(y)
        value = y.add_(value) if residual else y
    return value.mean((2, 3))


def logits_of(features):
    return F.linear(features, net.params['classifier.weight'], net.params.get('classifier.bias'))


def triplets(features, own):
    distance = torch.cdist(features, features)
    same = own[:, None] == own[None]
    positive = distance.masked_fill(~same, 0).amax(1)
    negative = distance.masked_fill(same, math.inf).amin(1)
    return F.relu(positive - negative + 0.3).mean()


def confusion(logits):
    p = F.softmax(logits / 2.5, 1)
    entropy = -(p * p.clamp_min(1e-12).log()).sum(1).detach()
    weight = 1 + torch.exp(-entropy)
    weight = len(p) * weight / weight.sum()
    matrix = (p * weight[:, None]).t() @ p
    matrix = matrix / matrix.sum(1)
    return (matrix.sum() - matrix.trace()) / p.shape[1]


counts = torch.bincount(labels[known].long(), minlength=job['outputs']).float() if not age else None
years = torch.arange(job['outputs']).float()


def loss_of(chosen):
    own = labels[chosen]
    if reid:
        pooled = features_of(augmented(chosen))
        behind = F.batch_norm(pooled, None, None, net.params['neck.gamma'], None, True, 0.0, EPSILON)
        return F.cross_entropy(logits_of(behind), own.long(), label_smoothing=0.1) + triplets(pooled, own)
    if task == 'minimum-class-confusion':
        logits = logits_of(features_of(augmented(torch.cat([chosen, next(other)]))))
        return (F.cross_entropy(logits[:len(chosen)], own.long(), label_smoothing=0.1)
                + min(1, done / 0.2) * confusion(logits[len(chosen):]))
    logits = logits_of(features_of(augmented(chosen)))
    if age:
        p = F.softmax(logits, 1)
        expected = (p * years).sum(1)
        variance = (p * (years - expected[:, None]) ** 2).sum(1)
        return (F.cross_entropy(logits, own.clamp(max=len(years) - 1).long())
                + 0.2 * ((expected - own) ** 2).mean() / 2 + 0.05 * variance.mean())
    weight = len(known) / (len(counts) * counts) if task == 'gender-recognition' else None
    return F.cross_entropy(logits, own.long(), weight, label_smoothing=0.1)


mcc = task == 'minimum-class-confusion'
size = min(batch // 2 if mcc else batch, len(known))
source = identities(known, size) if reid else shuffled(known, size)
other = shuffled(target, min(batch // 2, len(target))) if mcc else None
drawn = size * (2 if mcc else 1)
began = time.monotonic()
steps = 0
while True:
    spent = (time.monotonic() - began) / job['seconds'] if job.get('seconds') else steps * drawn / job['passes']
    done = spent
    if done >= 1:
        break
    rate = peak * (done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95)))
    for group in optimizer.param_groups:
        group['lr'] = rate
    loss = loss_of(next(source))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.params.values(), 5)
    optimizer.step()
    steps += 1
took = time.monotonic() - began

form = torch.channels_last
with torch.inference_mode():
    # Statistics of batches like those of the training: half of them of each domain, where there are two.
    seen = known.split(100)
    if mcc:
        seen = [torch.cat(pair) for pair in zip(known[torch.randperm(len(known))].split(50), target.split(50))]
    parts = [x[part].contiguous(memory_format=form) for part in seen if len(part) > 1]
    ready = net.calibrated(plan, parts, False)
    infer = lambda part: features_of(x[part].contiguous(memory_format=form), lambda layer, y: layer.infer(y), ready)
    features = torch.cat([infer(part) for part in test.split(100)])
    if reid:
        all_features = torch.cat([infer(part) for part in seen])
        center, spread = all_features.mean(0), all_features.var(0, unbiased=False)
        answers = (features - center) * net.params['neck.gamma'] / torch.sqrt(spread + EPSILON)
    else:
        answers = logits_of(features)
answers.contiguous().numpy().astype(numpy.float32).tofile(job['out'])
print(json.dumps({'epochs': steps * drawn / len(train), 'seconds': took, 'version': f'PyTorch {torch.__version__}'}))
