"""The weight-shared network of packages/supernet in PyTorch, written for speed on a CPU: slices are views, nothing is
computed that is not asked for (no running statistics in training), activations work in place.

Architectures come as the `units` of packages/nas: [{residual, layers: [{name, depthwise, kernel, stride, channelsIn,
channelsOut, activation}]}]. Parameters have the names of packages/supernet, in PyTorch's shapes.
"""
import json
import struct

import torch
import torch.nn.functional as F

EPSILON = 1e-5
ACTIVATIONS = {'linear': lambda x: x, 'relu': F.relu_, 'hswish': F.hardswish}


def read_safetensors(path):
    with open(path, 'rb') as file:
        data = bytearray(file.read())
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != '__metadata__':
            begin, end = (8 + length + at for at in entry['data_offsets'])
            flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
            tensors[name] = flat.view(entry['shape'])
    return tensors


def from_ntaa(tensor):
    """HWIO filters become OIHW, depthwise HWC1 ones C1HW; the classifier [in, out] becomes [out, in]."""
    if tensor.dim() == 4:
        depthwise = tensor.shape[3] == 1
        return tensor.permute(2, 3, 0, 1) if depthwise else tensor.permute(3, 2, 0, 1)
    return tensor


class Layer:
    """One convolution with batch norm and activation, as one architecture uses it."""

    def __init__(self, params, spec):
        name, kernel, self.cout = spec['name'], spec['kernel'], spec['channelsOut']
        self.weight, self.depthwise = params[f'{name}.weight'], spec['depthwise']
        self.cin = 1 if self.depthwise else spec['channelsIn']
        self.gamma, self.beta = params[f'{name}.bn.gamma'], params[f'{name}.bn.beta']
        self.transforms = [params[f'{name}.{k}to{k - 2}'] for k in range(self.weight.shape[2], kernel, -2)]
        self.geometry = (spec['stride'], kernel // 2, 1, self.cout if self.depthwise else 1)
        self.activation = ACTIVATIONS[spec['activation']]

    def filter(self):
        weight = self.weight
        if weight.shape[:2] != (self.cout, self.cin):
            weight = weight[:self.cout, :self.cin]
        for matrix in self.transforms:
            size = weight.shape[2] - 2
            weight = F.linear(weight[:, :, 1:-1, 1:-1].flatten(1), matrix).view(-1, 1, size, size)
        return weight

    def affine(self):
        whole = self.gamma.shape[0] == self.cout
        return (self.gamma, self.beta) if whole else (self.gamma[:self.cout], self.beta[:self.cout])

    def with_batch_statistics(self, x):
        gamma, beta = self.affine()
        z = F.conv2d(x, self.filter(), None, *self.geometry)
        return self.activation(F.batch_norm(z, None, None, gamma, beta, True, 0.0, EPSILON))


class Calibrated:
    """A layer for inference: its filter is cut once; batch norm may go into it when the statistics are complete."""

    def __init__(self, layer, memory_format):
        self.layer = layer
        self.filter = layer.filter().contiguous(memory_format=memory_format)
        self.gamma, self.beta = layer.affine()
        self.mean, self.variance = torch.zeros(layer.cout), torch.ones(layer.cout)
        self.batches = 0

    def calibrate(self, x):
        """The statistics become the mean over the batches so far."""
        z = F.conv2d(x, self.filter, None, *self.layer.geometry)
        self.batches += 1
        self.values = z.numel() // z.shape[1]
        y = F.batch_norm(z, self.mean, self.variance, self.gamma, self.beta, True, 1 / self.batches, EPSILON)
        return self.layer.activation(y)

    def finish(self, fold):
        # PyTorch averages unbiased variances, the network is defined with biased ones.
        self.variance *= (self.values - 1) / self.values
        self.bias = None
        if fold:
            scale = self.gamma * torch.rsqrt(self.variance + EPSILON)
            self.filter, self.bias = self.filter * scale.view(-1, 1, 1, 1), self.beta - self.mean * scale

    def infer(self, x):
        z = F.conv2d(x, self.filter, self.bias, *self.layer.geometry)
        if self.bias is None:
            z = F.batch_norm(z, self.mean, self.variance, self.gamma, self.beta, False, 0.0, EPSILON)
        return self.layer.activation(z)


class Net:
    def __init__(self, full, outputs, memory_format, tensors=None):
        """`full`: units of the largest architecture. `tensors`: weights as packages/supernet saves them, or random."""
        self.memory_format = memory_format
        self.params = {}
        for layer in (layer for unit in full for layer in unit['layers']):
            self._add_layer(layer, tensors)
        width = full[-1]['layers'][-1]['channelsOut']
        weight = tensors['classifier.weight'].t() if tensors else torch.randn(outputs, width) * 0.01
        self._add('classifier.weight', weight)
        self._add('classifier.bias', tensors['classifier.bias'] if tensors else torch.zeros(outputs))

    def _add_layer(self, layer, tensors):
        name, k, cout = layer['name'], layer['kernel'], layer['channelsOut']
        cin = 1 if layer['depthwise'] else layer['channelsIn']
        fan = k * k * (1 if layer['depthwise'] else cout)
        initial = {f'{name}.weight': torch.randn(cout, cin, k, k) * (2 / fan) ** 0.5}
        if layer['depthwise']:
            for size in range(k - 2, 1, -2):
                initial[f'{name}.{size + 2}to{size}'] = torch.eye(size * size)
        initial |= {f'{name}.bn.gamma': torch.ones(cout), f'{name}.bn.beta': torch.zeros(cout)}
        for key, value in initial.items():
            if not tensors or key in tensors:
                self._add(key, from_ntaa(tensors[key]) if tensors else value)

    def _add(self, name, value):
        form = self.memory_format if value.dim() == 4 else torch.contiguous_format
        trained = not torch.is_inference_mode_enabled()
        self.params[name] = torch.nn.Parameter(value.clone(memory_format=form), requires_grad=trained)

    def plan(self, units):
        return [(unit['residual'], [Layer(self.params, layer) for layer in unit['layers']]) for unit in units]

    def forward(self, plan, x):
        return self._run(plan, x, Layer.with_batch_statistics)

    def calibrated(self, plan, batches, fold=True):
        """The architecture ready for inference, with statistics over `batches`."""
        ready = [(residual, [Calibrated(layer, self.memory_format) for layer in layers]) for residual, layers in plan]
        for batch in batches:
            self._run(ready, batch, Calibrated.calibrate)
        for _, layers in ready:
            for layer in layers:
                layer.finish(fold)
        return ready

    def infer(self, ready, x):
        return self._run(ready, x, Calibrated.infer)

    def _run(self, plan, x, apply):
        for residual, layers in plan:
            y = x
            for layer in layers:
                y = apply(layer, y)
            x = y.add_(x) if residual else y
        return F.linear(x.mean((2, 3)), self.params['classifier.weight'], self.params.get('classifier.bias'))


class Trainer:
    """Sandwich steps with in-place distillation: the first architecture learns from the targets, the others from it."""

    def __init__(self, net, sgd, rate):
        self.net, self.clip = net, sgd.get('clipNorm')
        groups = {}
        for name, param in net.params.items():
            decay = sgd['weightDecay'] if name.endswith('.weight') else 0
            lr = rate * (sgd['headRate'] if name.startswith('classifier.') else 1)
            groups.setdefault((decay, lr), []).append(param)
        self.optimizer = torch.optim.SGD(
            [{'params': params, 'weight_decay': decay, 'lr': lr} for (decay, lr), params in groups.items()],
            lr=rate, momentum=sgd['momentum'], nesterov=sgd['nesterov'], foreach=True)

    def step(self, plans, x, targets):
        """Returns the logits of every architecture."""
        self.optimizer.zero_grad(set_to_none=True)
        all_logits = []
        for plan in plans:
            logits = self.net.forward(plan, x)
            F.cross_entropy(logits, targets).backward()
            all_logits.append(logits.detach())
            if len(all_logits) == 1:
                targets = F.softmax(all_logits[0], 1)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.net.params.values(), self.clip)
        self.optimizer.step()
        return all_logits
