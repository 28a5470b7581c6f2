#!/usr/bin/env python3
"""A measured process in PyTorch; what it is told and what it answers is in bench/engine.mjs.

usage: torch_peer.py channels_last|contiguous
"""
import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

from torch_net import Net, Trainer

EVALUATION_BATCH = 100
FORMAT = torch.channels_last if sys.argv[1] == 'channels_last' else torch.contiguous_format
told = json.loads(sys.stdin.readline())
torch.set_num_threads(told['threads'])
torch.manual_seed(0)


def random_images(count):
    size = told['resolution']
    return torch.randn(count, 3, size, size).contiguous(memory_format=FORMAT)


def train(net):
    trainer = Trainer(net, told['sgd'], told['rate'])
    images = random_images(told['batch'])
    targets = F.one_hot(torch.randint(told['outputs'], (told['batch'],)), told['outputs']).float()
    steps = [[net.plan(units) for units in step] for step in told['steps']]

    def unit():
        for plans in steps:
            trainer.step(plans, images, targets)
    return unit


def forward(net):
    images = random_images(told['batch'])
    ready = net.calibrated(net.plan(told['steps'][0][0]), [images], fold=False)
    return lambda: net.infer(ready, images)


def folded(net):
    images = random_images(told['batch'])
    ready = net.calibrated(net.plan(told['steps'][0][0]), [images])
    traced = torch.jit.trace_module(Inference(net, ready), {'forward': images}).eval()
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return lambda: frozen(images)


class Inference(torch.nn.Module):
    def __init__(self, net, ready):
        super().__init__()
        self.forward = lambda x: net.infer(ready, x)


def candidates(net):
    """Recalibrates and validates every architecture. The images stay decoded and normalised in memory."""
    calibration = random_images(told['calibration']).split(EVALUATION_BATCH)
    validation = random_images(told['validation']).split(EVALUATION_BATCH)
    labels = torch.randint(told['outputs'], (told['validation'],))
    plans = [net.plan(units) for step in told['steps'] for units in step]

    def unit():
        for plan in plans:
            ready = net.calibrated(plan, calibration)
            logits = torch.cat([net.infer(ready, batch) for batch in validation])
            F.cross_entropy(logits, labels).item()
            (logits.argmax(1) == labels).float().mean().item()
    return unit


def run(unit, seconds):
    """Whole units until the time is over."""
    cpu, wall, units = time.process_time(), time.perf_counter(), 0
    while units == 0 or time.perf_counter() - wall < seconds:
        unit()
        units += 1
    return {'units': units, 'wall': time.perf_counter() - wall, 'cpu': time.process_time() - cpu,
            'rss': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def say(message):
    print(json.dumps(message), flush=True)


with torch.inference_mode(told['work'] != 'train'):
    work = {'train': train, 'forward': forward, 'folded': folded, 'candidates': candidates}[told['work']]
    unit = work(Net(told['full'], told['outputs'], FORMAT))
    run(unit, told['warmup'])
    say({'ready': f'PyTorch {torch.__version__}'})
    for _ in sys.stdin:
        say(run(unit, told['seconds']))
os._exit(0)
