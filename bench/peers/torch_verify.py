#!/usr/bin/env python3
"""Compares the PyTorch twin with what packages/supernet computed from the same weights and images.

In double precision, so that what is seen is our rounding and not PyTorch's (whose channels_last batch norm in float32
is off by 1e-5).

usage: torch_verify.py TASK.json RESULTS.safetensors. Prints the largest differences; fails when one is above its limit.
"""
import json
import sys

import torch

from torch_net import Net, Trainer, from_ntaa, read_safetensors

told = json.load(open(sys.argv[1]))
torch.set_default_dtype(torch.float64)
theirs = {name: value.double() for name, value in read_safetensors(sys.argv[2]).items()}
torch.manual_seed(0)


def part(prefix):
    return {name[len(prefix):]: value for name, value in theirs.items() if name.startswith(prefix)}


def images(name):
    return theirs[name].permute(0, 3, 1, 2)


def relative(ours, expected, scale):
    return ((ours - expected).abs().max() / scale).item()


def verify(form):
    def fresh():
        return Net(told['full'], told['outputs'], form, part('weights.'))

    worst = {'logits': 0.0, 'updates': 0.0, 'candidates': 0.0}
    for i, step in enumerate(told['steps']):
        net = fresh()
        before = {name: value.detach().clone() for name, value in net.params.items()}
        trainer = Trainer(net, told['sgd'], told['rate'])
        logits = trainer.step([net.plan(units) for units in step],
                              images('images').contiguous(memory_format=form), theirs['targets'])
        for j, ours in enumerate(logits):
            expected = theirs[f'step{i}.logits{j}']
            worst['logits'] = max(worst['logits'], relative(ours, expected, expected.abs().max()))
        updates = {}
        for name, expected in part(f'step{i}.weights.').items():
            expected = expected.t() if name == 'classifier.weight' else from_ntaa(expected)
            updates[name] = (net.params[name].detach() - before[name], expected - before[name])
        # Some gradients are zero but for rounding: they are compared with a hundredth of the largest.
        least = 1e-2 * max(expected.abs().max() for _, expected in updates.values())
        for ours, expected in updates.values():
            worst['updates'] = max(worst['updates'], relative(ours, expected, expected.abs().max().clamp(min=least)))
    with torch.inference_mode():
        for j, units in enumerate(told['candidates']):
            net = fresh()
            batches = [images(name).contiguous(memory_format=form).split(100) for name in ('calibration', 'validation')]
            ready = net.calibrated(net.plan(units), batches[0])
            ours = torch.cat([net.infer(ready, batch) for batch in batches[1]])
            expected = theirs[f'candidate{j}.logits']
            worst['candidates'] = max(worst['candidates'], relative(ours, expected, expected.abs().max()))
    return worst


results = {name: verify(getattr(torch, name)) for name in ('channels_last', 'contiguous_format')}
print(json.dumps(results))
sys.exit(any(value > told['limits'][kind] for worst in results.values() for kind, value in worst.items()))
