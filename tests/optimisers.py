"""Every optax transformation that defaults or one obvious argument build, by name."""

import jax
import optax

contrib = optax.contrib

_AT_A_RATE = (
    "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb "
    "lars lion nadam nadamw novograd optimistic_adam_v2 optimistic_gradient_descent polyak_sgd "
    "radam rmsprop rprop sgd sign_sgd signum sm3 yogi"
).split()

_FROM_CONTRIB = (
    "acprop ademamix adopt dog dowg madgrad momo momo_adam muon schedule_free_adamw "
    "schedule_free_sgd simplified_ademamix"
).split()

_BEFORE_SGD = {
    "adaptive_grad_clip": (0.1,),
    "add_decayed_weights": (0.1,),
    "apply_every": (2,),
    "centralize": (),
    "clip": (1.0,),
    "clip_by_block_rms": (1.0,),
    "clip_by_global_norm": (1.0,),
    "ema": (0.9,),
    "keep_params_nonnegative": (),
    "normalize_by_update_norm": (),
    "scale": (2.0,),
    "scale_by_belief": (),
    "scale_by_factored_rms": (),
    "scale_by_lbfgs": (),
    "scale_by_novograd": (),
    "scale_by_optimistic_gradient": (),
    "scale_by_param_block_norm": (),
    "scale_by_param_block_rms": (),
    "scale_by_rms": (),
    "scale_by_rprop": (0.1,),
    "scale_by_rss": (),
    "scale_by_sign": (),
    "scale_by_stddev": (),
    "scale_by_trust_ratio": (),
    "scale_by_yogi": (),
    "trace": (0.9,),
    "zero_nans": (),
}

_CLIPS = ("adaptive_grad_clip", "centralize", "clip_by_global_norm", "normalize_by_update_norm")

OPTIMISERS = {
    **{name: lambda name=name: getattr(optax, name)(0.1) for name in _AT_A_RATE},
    **{name: lambda name=name: getattr(contrib, name)(0.1) for name in _FROM_CONTRIB},
    **{
        f"{name}, sgd": lambda name=name: optax.chain(
            getattr(optax, name)(*_BEFORE_SGD[name]), optax.sgd(0.1)
        )
        for name in _BEFORE_SGD
    },
    **{
        f"{name}, adamw": lambda name=name: optax.chain(
            getattr(optax, name)(*_BEFORE_SGD[name]), optax.adamw(0.1)
        )
        for name in _CLIPS
    },
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=jax.random.key(0)),
    "lbfgs without line search": lambda: optax.lbfgs(0.1, linesearch=None),
    "tiny, clip": lambda: optax.chain(
        optax.scale(1e-25), optax.clip_by_global_norm(1.0), optax.sgd(0.1)
    ),
    "clip, schedule": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 10))
    ),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(0.1),
    "masked": lambda: optax.masked(optax.adam(0.1), {"a": True, "b": False}),
    "if finite": lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    "every second": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "plateau": lambda: optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau()),
    "sharpness": lambda: contrib.sam(optax.sgd(0.1), optax.sgd(0.05)),
}

SEARCHES = {
    "lbfgs": lambda: optax.lbfgs(),
    "lbfgs at a rate": lambda: optax.lbfgs(0.1),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, store_grad=True)
    ),
}
