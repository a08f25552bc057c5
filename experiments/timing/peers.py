"""One case of the throughput kit in another library, in a process of its own.

`comparison` starts this file with a Python that has PyTorch and the library, and need not have JAX:

    python peers.py LIBRARY CASE INNER_STEPS INNER_RATE ARRAYS.npz

It takes one outer step, writes a line of JSON (the loss of that step, the version), and then reads
seconds, line by line, and answers each with the durations of the steps it took in that time.
Networks pool before they rectify: the same values, and the quicker order for every library.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE = 1e-3
Arrays = dict[str, Tensor]


class Unsupported(Exception):
    """This library has nothing for this case."""


class Case:
    """A case's arrays as tensors: the batch, and theta by the names of its leaves."""

    def __init__(self, name: str, steps: int, rate: float, path: str) -> None:
        self.name, self.steps, self.rate = name, steps, rate
        self.theta: Arrays = {}
        self.batch: Arrays = {}
        with np.load(path) as arrays:
            for key in arrays.files:
                part, _, leaf = key.partition("/")
                tensor = torch.from_numpy(arrays[key].copy())
                if part == "theta":
                    # Images and kernels come channels last.
                    kernel = tensor.ndim == 4
                    tensor = tensor.permute(3, 2, 0, 1).contiguous() if kernel else tensor
                    self.theta[leaf] = tensor.requires_grad_()
                else:
                    images = tensor.ndim == 5
                    tensor = tensor.permute(0, 1, 4, 2, 3).contiguous() if images else tensor
                    self.batch[leaf] = tensor if tensor.is_floating_point() else tensor.long()
        self.num_tasks = len(self.batch["query_y"])
        self.descends = name in ("sinusoid_maml", "conv4_maml", "conv4_fomaml")
        self.loss = F.mse_loss if name == "sinusoid_maml" else F.cross_entropy

    def task(self, i: int) -> tuple[Tensor, ...]:
        """Support x and y, query x and y."""
        return tuple(
            self.batch[name][i] for name in ("support_x", "support_y", "query_x", "query_y")
        )

    def perceptron(self) -> nn.Module:
        layers: list[nn.Module] = []
        for name in ("network/0/0", "network/0/1", "head"):
            layers += [self._linear(name), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def conv4(self, head: bool) -> nn.Module:
        layers: list[nn.Module] = []
        for i in range(4):
            kernel = self.theta[f"network/{i}/kernel"]
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
            norm = nn.BatchNorm2d(kernel.shape[0], track_running_stats=False)
            conv.weight.data.copy_(kernel.data)
            norm.weight.data.copy_(self.theta[f"network/{i}/scale"].data)
            norm.bias.data.copy_(self.theta[f"network/{i}/offset"].data)
            layers += [conv, norm, nn.MaxPool2d(2), nn.ReLU()]
        layers.append(nn.Flatten())
        return nn.Sequential(*layers, *([self._linear("head")] if head else []))

    def network(self) -> nn.Module:
        """With its head, as gradient-based learners adapt it."""
        net = self.perceptron() if self.name == "sinusoid_maml" else self.conv4(head=True)
        return net.train()

    def _linear(self, name: str) -> nn.Linear:
        kernel, bias = self.theta[f"{name}/kernel"], self.theta[f"{name}/bias"]
        layer = nn.Linear(*kernel.shape)
        layer.weight.data.copy_(kernel.data.T)
        layer.bias.data.copy_(bias.data)
        return layer


def over_tasks(case: Case, parameters: Any, task_loss: Callable[[int], Tensor]) -> Callable:
    """An outer step that goes through the tasks one by one, as these libraries' examples do."""
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def step() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        for i in range(case.num_tasks):
            loss = task_loss(i) / case.num_tasks
            loss.backward()  # task by task: the memory of one
            total += loss.detach()
        optimiser.step()
        return total

    return step


def learn2learn(case: Case) -> Callable:
    stub_torchvision()
    l2l: Any = importlib.import_module("learn2learn")
    if case.name == "prototypes":
        net, scale = case.conv4(head=False).train(), case.theta["log_scale"]
        classify = l2l.nn.PrototypicalClassifier()

        def episode(i: int) -> Tensor:
            xs, ys, xq, yq = case.task(i)
            classify.fit_(net(xs), ys)
            return F.cross_entropy(scale.exp() * classify(net(xq)), yq)

        return over_tasks(case, [*net.parameters(), scale], episode)
    first_order = case.name == "conv4_fomaml"
    maml = l2l.algorithms.MAML(case.network(), lr=case.rate, first_order=first_order)

    def task_loss(i: int) -> Tensor:
        xs, ys, xq, yq = case.task(i)
        learner = maml.clone()
        for _ in range(case.steps):
            learner.adapt(case.loss(learner(xs), ys))
        return case.loss(learner(xq), yq)

    return over_tasks(case, maml.parameters(), task_loss)


def higher(case: Case) -> Callable:
    library: Any = importlib.import_module("higher")
    if case.name == "conv4_fomaml":
        raise Unsupported("no first-order switch")
    net = case.network()
    inner = torch.optim.SGD(net.parameters(), lr=case.rate)

    def task_loss(i: int) -> Tensor:
        xs, ys, xq, yq = case.task(i)
        with library.innerloop_ctx(net, inner, copy_initial_weights=False) as (learner, descent):
            for _ in range(case.steps):
                descent.step(case.loss(learner(xs), ys))
            return case.loss(learner(xq), yq)

    return over_tasks(case, net.parameters(), task_loss)


def torchopt(case: Case) -> Callable:
    library: Any = importlib.import_module("torchopt")
    if case.name == "conv4_fomaml":
        raise Unsupported("no first-order switch")
    net = case.network()
    start = list(net.parameters())  # MetaSGD replaces what the module holds
    inner = library.MetaSGD(net, lr=case.rate)
    optimiser = torch.optim.Adam(start, lr=LEARNING_RATE)

    def step() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        weights = library.extract_state_dict(net, by="reference", detach_buffers=True)
        state = library.extract_state_dict(inner, by="reference")
        for i in range(case.num_tasks):
            xs, ys, xq, yq = case.task(i)
            for _ in range(case.steps):
                inner.step(case.loss(net(xs), ys))
            loss = case.loss(net(xq), yq) / case.num_tasks
            loss.backward()
            total += loss.detach()
            library.recover_state_dict(net, weights)
            library.recover_state_dict(inner, state)
        optimiser.step()
        return total

    return step


def torch_func(case: Case) -> Callable:
    """Plain `torch.func`: a loss of one task, vmapped over tasks."""
    task_loss = functional_losses(case)[case.name]
    names = ("support_x", "support_y", "query_x", "query_y", "description")
    batch = [case.batch[name] for name in names if name in case.batch]
    optimiser = torch.optim.Adam(case.theta.values(), lr=LEARNING_RATE)

    def mean_loss(theta: Arrays) -> Tensor:
        in_dims = (None, *[0] * len(batch))
        return torch.func.vmap(task_loss, in_dims=in_dims)(theta, *batch).mean()

    gradient = torch.func.grad_and_value(mean_loss)

    def step() -> Tensor:
        grads, loss = gradient({name: leaf.detach() for name, leaf in case.theta.items()})
        for name, leaf in case.theta.items():
            leaf.grad = grads[name]
        optimiser.step()
        return loss

    return step


def dense(p: Arrays, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}/kernel"] + p[f"{name}/bias"]


def perceptron(p: Arrays, x: Tensor) -> Tensor:
    x = F.relu(dense(p, "network/0/0", x))
    return dense(p, "head", F.relu(dense(p, "network/0/1", x)))


def conv4(p: Arrays, x: Tensor) -> Tensor:
    for i in range(4):
        x = F.conv2d(x, p[f"network/{i}/kernel"], padding=1)
        scale, offset = p[f"network/{i}/scale"], p[f"network/{i}/offset"]
        x = F.batch_norm(x, None, None, scale, offset, training=True)
        x = F.relu(F.max_pool2d(x, 2))
    return x.flatten(1)


def functional_losses(case: Case) -> dict[str, Callable[..., Tensor]]:
    """`(theta, support x, support y, query x, query y, ...) -> loss` of each case."""

    def forward(p: Arrays, x: Tensor) -> Tensor:
        return perceptron(p, x) if case.name == "sinusoid_maml" else dense(p, "head", conv4(p, x))

    def descend(p: Arrays, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor, *text: Tensor) -> Tensor:
        del text
        w = p
        for _ in range(case.steps):
            grads = torch.func.grad(lambda w: case.loss(forward(w, xs), ys))(w)
            if case.name == "conv4_fomaml":
                grads = {name: grad.detach() for name, grad in grads.items()}
            w = {name: leaf - case.rate * grads[name] for name, leaf in w.items()}
        return case.loss(forward(w, xq), yq)

    def prototypes(p: Arrays, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        members = F.one_hot(ys, 5).to(xs.dtype)
        means = members.T @ conv4(p, xs) / members.sum(0)[:, None]
        queries = conv4(p, xq)
        distances = (queries**2).sum(1)[:, None] + (means**2).sum(1) - 2 * queries @ means.T
        return F.cross_entropy(-p["log_scale"].exp() * distances, yq)

    def matching(p: Arrays, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        support, query = F.normalize(conv4(p, xs), dim=-1), F.normalize(conv4(p, xq), dim=-1)
        share = torch.softmax(p["log_scale"].exp() * query @ support.T, -1)
        return F.nll_loss(torch.log(share @ F.one_hot(ys, 5).to(xs.dtype)), yq)

    def hypernet(p: Arrays, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor, text: Tensor) -> Tensor:
        del xs, ys
        context = dense(p, "describe/1", F.relu(dense(p, "describe/0", text)))
        context = context * torch.rsqrt((context**2).mean() + 1e-6)
        for i in range(2):
            bias = dense(p, f"emit/{i}/bias", context)
            kernel = dense(p, f"emit/{i}/kernel", context).view(-1, len(bias))
            xq = F.relu(xq) if i else xq
            xq = xq @ kernel + bias
        return F.mse_loss(xq, yq)

    descents = dict.fromkeys(("sinusoid_maml", "conv4_maml", "conv4_fomaml"), descend)
    return descents | {"prototypes": prototypes, "matching": matching, "hypernet": hypernet}


def stub_torchvision() -> None:
    """learn2learn imports torchvision for its data sets, of which none is used here."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        from types import ModuleType

        class Anything(ModuleType):
            __path__ = []

            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                return type(name, (), {})

        parts = ("", ".transforms", ".datasets", ".datasets.omniglot", ".datasets.folder")
        for part in (*parts, ".datasets.utils", ".models"):
            sys.modules[f"torchvision{part}"] = Anything(f"torchvision{part}")


LIBRARIES: dict[str, Callable[[Case], Callable]] = {
    "learn2learn": learn2learn,
    "higher": higher,
    "torchopt": torchopt,
    "torch_func": torch_func,
}


def main(arguments: list[str]) -> None:
    """Answer the process that started this one."""
    library, name, steps, rate, path = arguments
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    out = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)

    def say(**fields: Any) -> None:
        out.write(json.dumps(fields) + "\n")
        out.flush()

    try:
        case = Case(name, int(steps), float(rate), path)
        if library != "torch_func" and not (
            case.descends or (library == "learn2learn" and name == "prototypes")
        ):
            raise Unsupported("no such learner")
        step = LIBRARIES[library](case)
        first = float(step())
    except (Unsupported, ImportError, KeyError) as error:
        return say(missing=f"{type(error).__name__}: {error}")
    say(loss=first, version=version("torch" if library == "torch_func" else library))
    for line in sys.stdin:
        times: list[float] = []
        while len(times) < 2 or sum(times) < float(line):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        say(times=times)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
