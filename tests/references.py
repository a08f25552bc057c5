"""NumPy oracles: the formulas of the papers, written out row by row, and without jax.

Arguments are NumPy arrays; `mask` is 1 for a real row. Nothing here is fast or clever.
"""

import numpy as np
import scipy.stats


def cross_entropy(z, y, mask):
    rows = [np.log(np.exp(z[i] - z[i].max()).sum()) + z[i].max() - z[i, y[i]]
            for i in np.flatnonzero(mask)]  # fmt: skip
    return np.mean(rows)


def squared_error(z, y, mask):
    return np.mean([np.mean((z[i] - y[i]) ** 2) for i in np.flatnonzero(mask)])


def gaussian(z, y, mask):
    """Negative log-likelihood of the real rows, by the density of the normal distribution."""
    size = y.shape[1]
    return np.mean(
        [
            -scipy.stats.norm.logpdf(y[i], z[i, :size], np.exp(z[i, size:])).sum()
            for i in np.flatnonzero(mask)
        ]
    )


def accuracy(z, y, mask):
    return np.mean([np.argmax(z[i]) == y[i] for i in np.flatnonzero(mask)])


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mlp(layers, x):
    x = x.reshape(len(x), -1)
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0.0) if i < len(layers) - 1 else x
    return x


# Learners: logits [N, C], or log-probabilities of the classes.


def attention(query, memory, y, mask, scale, ways):
    """Matching Networks: log of the attention that the rows of each class receive together."""
    a = np.exp(scale * unit(query) @ unit(memory).T) * mask
    a = a / a.sum(axis=1, keepdims=True)
    return np.log(np.stack([a[:, (y == c) & (mask > 0)].sum(axis=1) for c in range(ways)], axis=1))


def sparse_attention(query, memory, y, mask, scale, ways):
    """The same with sparsemax: a = max(s - tau, 0), where tau makes them sum to one (bisection)."""
    scores = scale * unit(query) @ unit(memory[mask > 0]).T
    low, high = scores.min() - 1.0, scores.max() * np.ones((len(scores), 1))
    for _ in range(60):
        tau = 0.5 * (low + high)
        too_low = np.maximum(scores - tau, 0).sum(axis=1, keepdims=True) > 1.0
        low, high = np.where(too_low, tau, low), np.where(too_low, high, tau)
    a = np.maximum(scores - tau, 0)
    shares = np.stack([a[:, y[mask > 0] == c].sum(axis=1) for c in range(ways)], axis=1)
    return np.log(shares + 1e-3)


def class_means(features, y, mask, ways):
    return np.stack([features[(y == c) & (mask > 0)].mean(axis=0) for c in range(ways)])


def prototypes_euclidean(query, features, y, mask, scale, ways):
    means = class_means(features, y, mask, ways)
    return -scale * np.array([[((q - m) ** 2).sum() for m in means] for q in query])


def prototypes_cosine(query, features, y, mask, scale, ways):
    return scale * unit(query) @ unit(class_means(unit(features), y, mask, ways)).T


def nearest_neighbour(query, x, y, mask, ways):
    distances = np.array([[((q - row) ** 2).sum() for row in x] for q in query])
    by_class = [distances[:, (y == c) & (mask > 0)].min(axis=1) for c in range(ways)]
    return -np.stack(by_class, axis=1)


def logistic_regression(query, features, y, mask, penalty, ways, num_steps=5000, rate=0.5):
    """Logits of a head fitted by plain gradient descent from zero, half its square penalised."""
    features, y = unit(features)[mask > 0], y[mask > 0]
    kernel, bias = np.zeros((features.shape[1], ways)), np.zeros(ways)
    targets = np.eye(ways)[y]
    for _ in range(num_steps):
        error = (np.exp(log_softmax(features @ kernel + bias)) - targets) / len(y)
        kernel = kernel - rate * (features.T @ error + penalty * kernel)
        bias = bias - rate * error.sum(axis=0)
    return unit(query) @ kernel + bias


def ridge(query, features, targets, mask, regulariser):
    """Outputs `[N, D]` by least squares on rows that ask for V = 0, one column of X being ones."""

    def design(rows):
        return np.column_stack([rows / np.sqrt(rows.shape[1]), np.ones(len(rows))])

    x, y = design(features[mask > 0]), targets[mask > 0]
    x = np.concatenate([x, np.sqrt(regulariser) * np.eye(x.shape[1])])
    y = np.concatenate([y, np.zeros((len(x) - len(y), y.shape[1]))])
    return design(query) @ np.linalg.lstsq(x, y, rcond=None)[0]


def ridge_classifier(theta, query, features, y, mask, ways):
    solved = ridge(query, features, np.eye(ways)[y], mask, np.exp(theta["log_regulariser"]))
    return np.exp(theta["log_scale"]) * solved + theta["offset"]


def relation(compare, query, features, y, mask, ways):
    means = class_means(features, y, mask, ways)
    return np.array(
        [[mlp(compare, np.concatenate([q, m])[None])[0, 0] for m in means] for q in query]
    )


# Attention and what is built on it.


def attend(query, keys, values, num_heads, bias=None):
    """What one row `[E]` reads of the rows it may read, head by head; bias `[H, S]`."""
    bias = np.zeros((num_heads, len(keys))) if bias is None else bias
    blocks = (np.split(each, num_heads, axis=-1) for each in (query, keys, values))
    read = [
        np.exp(log_softmax(k @ q / np.sqrt(len(q)) + b)) @ v
        for q, k, v, b in zip(*blocks, bias, strict=True)
    ]
    return np.concatenate(read)


def neural_process(theta, query, features, y, mask, num_heads=2, min_std=0.01):
    """Means and log standard deviations; a latent, if there is one, is at its mean."""
    features, y = features[mask > 0], y[mask > 0]
    values = mlp(theta["phi"], np.column_stack([features, y]))
    out = []
    for q in query:
        parts = [q]
        if "locate" in theta:
            keys = mlp(theta["locate"], features)
            parts.append(attend(mlp(theta["locate"], q[None])[0], keys, values, num_heads))
        if "latent" in theta:
            parts.append(np.split(dense(theta["latent"], values.mean(axis=0)), 2)[0])
        if len(parts) == 1:
            parts.append(values.mean(axis=0))
        mean, raw = np.split(mlp(theta["decoder"], np.concatenate(parts)[None])[0], 2)
        out.append(np.concatenate([mean, np.log(min_std + np.log1p(np.exp(raw)))]))
    return np.stack(out)


def in_context(theta, query, features, y, mask, num_heads=2):
    """Logits of as many classes as there are labels, or targets."""
    features, y = features[mask > 0], y[mask > 0]
    support, query = dense(theta["embed"], features), dense(theta["embed"], query)
    classify = y.ndim == 1
    if not classify:
        support = support + dense(theta["target"], y)
    for layer in theta["layers"]:
        keys, values = (dense(layer[name], unit_rms(support)) for name in ("key", "value"))
        alike = [np.outer(layer["same_class"], y == label) if classify else None for label in y]
        query = np.stack([transform(layer, q, keys, values, num_heads) for q in query])
        support = np.stack(
            [
                transform(layer, s, keys, values, num_heads, bias)
                for s, bias in zip(support, alike, strict=True)
            ]
        )
    if not classify:
        return dense(theta["readout"], unit_rms(query))
    means = class_means(unit(support), y, np.ones(len(y)), y.max() + 1)
    return np.exp(theta["log_scale"]) * unit(query) @ means.T


def transform(layer, token, keys, values, num_heads, bias=None):
    """One token `[E]` after one pre-norm layer of a transformer."""
    read = attend(dense(layer["query"], unit_rms(token)), keys, values, num_heads, bias)
    token = token + dense(layer["out"], read)
    return token + dense(layer["down"], gelu(dense(layer["up"], unit_rms(token))))


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def unit_rms(x):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)


# Full-context embeddings.


def lstm(cell, x, hidden, memory):
    """One step of one row; the forget gate has a bias of 1 on top of its own."""
    gates = np.concatenate([x, hidden]) @ cell["kernel"] + cell["bias"]
    write, forget, read, value = np.split(gates, 4)
    memory = sigmoid(forget + 1.0) * memory + sigmoid(write) * np.tanh(value)
    return sigmoid(read) * np.tanh(memory), memory


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def full_context_support(forward, backward, features, mask):
    """Embedded real rows `[S, F]`: what came before, what comes after, and the row itself."""
    real = np.flatnonzero(mask)
    out = unit(features).copy()
    for cell, order in ((forward, real), (backward, real[::-1])):
        hidden = memory = np.zeros(features.shape[1])
        for i in order:
            hidden, memory = lstm(cell, unit(features)[i], hidden, memory)
            out[i] += hidden
    return unit(out)


def full_context_query(cell, feature, memory_rows, steps):
    """One embedded query row `[F]`, read again `steps` times over the real support rows."""
    start = unit(feature)
    hidden, memory = start, np.zeros_like(start)
    for _ in range(steps):
        attention_weights = np.exp(log_softmax(memory_rows @ hidden))
        hidden, memory = lstm(cell, start, hidden + attention_weights @ memory_rows, memory)
        hidden = hidden + start
    return hidden


def attention_in_full_context(theta, query, features, y, mask, ways, steps=3):
    memory = full_context_support(theta["forward"], theta["backward"], features, mask)
    read = [full_context_query(theta["query"], q, memory[mask > 0], steps) for q in query]
    return attention(np.stack(read), memory, y, mask, np.exp(theta["log_scale"]), ways)


# Sparsity: penalties of one array, and proximal operators.


def elastic_net(w, ratio):
    return ratio * np.abs(w).sum() + 0.5 * (1.0 - ratio) * (w**2).sum()


def group_lasso(matrix, axis):
    """Root of the group size times the norm of each group along `axis` of a matrix."""
    groups = matrix if axis in (1, -1) else matrix.T
    return sum(np.sqrt(len(group)) * np.linalg.norm(group) for group in groups)


def hoyer(w):
    return np.abs(w).sum() ** 2 / (w**2).sum()


def soft_threshold(w, step):
    return np.where(w > step, w - step, np.where(w < -step, w + step, 0.0))


def top_k(w, count):
    kept = np.argsort(-np.abs(w.ravel()))[:count]
    out = np.zeros_like(w)
    out.ravel()[kept] = w.ravel()[kept]
    return out


# Networks.


def layer_norm(x, scale, offset, eps=1e-5):
    """Each image `[H, W, C]` by its own mean and variance, then scale and offset by channel."""
    rows = [(image - image.mean()) / np.sqrt(image.var() + eps) for image in x]
    return np.stack(rows) * scale + offset


def convolution(x, kernel, strides, padding, input_dilation, kernel_dilation):
    """`y [N, *spatial', F]` of `x [N, *spatial, C]` and `kernel [*window, C, F]`, by its sums."""
    rank = x.ndim - 2
    padded = [
        (n - 1) * d + 1 + low + high
        for n, d, (low, high) in zip(x.shape[1:-1], input_dilation, padding, strict=True)
    ]
    window = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:rank], kernel_dilation, strict=True)]
    outputs = [(n - k) // s + 1 for n, k, s in zip(padded, window, strides, strict=True)]
    y = np.zeros((len(x), *outputs, kernel.shape[-1]))
    for place in np.ndindex(*outputs):
        for tap in np.ndindex(*kernel.shape[:rank]):
            at = [
                o * s + t * d - low
                for o, s, t, d, (low, _) in zip(
                    place, strides, tap, kernel_dilation, padding, strict=True
                )
            ]
            if any(a % d for a, d in zip(at, input_dilation, strict=True)):
                continue
            source = [a // d for a, d in zip(at, input_dilation, strict=True)]
            if all(0 <= a < n for a, n in zip(source, x.shape[1:-1], strict=True)):
                y[(slice(None), *place)] += x[(slice(None), *source)] @ kernel[tap]
    return y
