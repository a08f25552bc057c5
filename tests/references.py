"""NumPy oracles: the formulas of the papers, written out row by row, and without jax.

Arguments are NumPy arrays; `mask` is 1 for a real row. Nothing here is fast or clever.
"""

import numpy as np


def cross_entropy(z, y, mask):
    rows = [np.log(np.exp(z[i] - z[i].max()).sum()) + z[i].max() - z[i, y[i]]
            for i in np.flatnonzero(mask)]  # fmt: skip
    return np.mean(rows)


def squared_error(z, y, mask):
    return np.mean([np.mean((z[i] - y[i]) ** 2) for i in np.flatnonzero(mask)])


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
