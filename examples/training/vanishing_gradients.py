"""A deep net of sigmoids that does not learn, what its health report says, and four cures, each tried.

Run: python -m examples.training.vanishing_gradients
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

DEPTH, WIDTH, EPOCHS = 12, 64, 6


def plain(h, layer):
    return nn.sigmoid(h @ layer["W"] + layer["b"])


def relu(h, layer):
    return nn.relu(h @ layer["W"] + layer["b"])


def tanh(h, layer):
    return np.tanh(h @ layer["W"] + layer["b"])


def normalised(h, layer):
    """Layer norm in front of each sigmoid (Ba et al. 2016), which is moved to 0 and has the slope 1 there."""
    return 4 * nn.sigmoid(nn.layer_norm(h @ layer["W"] + layer["b"], (WIDTH,))) - 2


def residual(h, layer):
    """h + f(h): the gradient goes past each layer (He et al. 2016)."""
    return h + nn.sigmoid(h @ layer["W"] + layer["b"]) - 0.5


def narrow(key, shape):
    """Weights so small that each layer takes the gradient down."""
    return nn.init.normal(key, shape, 0, 0.05)


#: what a layer does, and how its weights begin: the failure first, then the cures
NETS = {
    "sigmoid": (plain, narrow),
    "ReLU and He's weights": (relu, nn.init.kaiming_normal),
    "tanh and Xavier's weights": (tanh, nn.init.xavier_normal),
    "layer norm": (normalised, nn.init.xavier_normal),
    "residual connections": (residual, nn.init.xavier_normal),
}


def initial(key, begin):
    keys = gc.random.split(key, DEPTH + 2)
    first = {"W": nn.init.xavier_normal(keys[0], (64, WIDTH)), "b": np.zeros(WIDTH)}
    layers = [{"W": begin(k, (WIDTH, WIDTH)), "b": np.zeros(WIDTH)} for k in keys[1:-1]]
    return {"first": first, "layers": layers, "last": {"W": nn.init.xavier_normal(keys[-1], (WIDTH, 10))}}


def net(layer):
    """Logits and loss of a net whose hidden layers are ``layer``."""

    def logits(params, images):
        h = tanh(images, params["first"])
        for each in params["layers"]:
            h = layer(h, each)
        return h @ params["last"]["W"]

    def loss(params, images, labels):
        return nn.cross_entropy(logits(params, images), labels)

    return logits, loss


def tried(name, epochs=EPOCHS):
    """The health of a net before training, and its share of unseen digits that are read right after it."""
    layer, begin = NETS[name]
    logits, loss = net(layer)
    train, test = ((d.images.astype(float), d.labels) for d in gc.data.digits().split(seed=0))
    params = initial(gc.random.key(0), begin)
    report = gc.health(loss, params, *(a[:128] for a in train), optimizer=optim.adam(1e-3))
    run = gc.fit(
        loss, params, train, optimizer=optim.adam(1e-3), batch_size=32, epochs=epochs, steps_per_call=8, log=False
    )
    return report, float(np.mean(gc.jit(logits)(run.params, test[0]).argmax(axis=1) == test[1]))


def main(epochs=EPOCHS, names=tuple(NETS)):
    found = {}
    for name in names:
        found[name] = report, share = tried(name, epochs)
        if name == "sigmoid":
            print(report, end="\n\n")
        first, last = report.layers[1].gradient, report.layers[-2].gradient
        print(f"{name}: gradient of the first hidden layer {first / last:.1e} of the last; {share:.1%} read right")
    return found


if __name__ == "__main__":
    main()
