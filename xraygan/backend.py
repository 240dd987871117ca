"""Everything that depends on the machine or on TensorFlow itself: precision, determinism, compilation, device, memory."""

import contextlib
import functools
import itertools
import logging
import os
import platform
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from joblib import cpu_count


@contextlib.contextmanager
def quiet_stderr():
    """Send what C++ code writes to standard error nowhere: TensorFlow's notices fill a notebook and no setting stops them."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # whatever a cloud has set
BACKENDS = ("tensorflow", "jax")
try:
    with quiet_stderr():
        import keras
except (ImportError, ValueError) as error:  # Keras' own sentence is a line below a long traceback
    name = os.environ.get("KERAS_BACKEND", "tensorflow")
    raise ValueError(
        f"KERAS_BACKEND is {name!r}, which can't be loaded ({error}): set it to {' or '.join(BACKENDS)}."
    ) from error
keras.config.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # else: that several small models are traced is "expensive"

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
AMPERE, VOLTA = 8, 7  # of a GPU's "compute capability": the first that multiplies bfloat16 fast, and float16
RECORDED_PACKAGES = ("tensorflow", "jax", "keras", "numpy", "pandas", "pillow", "scikit-learn", "scipy")


def configure(precision="auto", deterministic=True, threads=0):
    """Set precision, determinism and threads for this process, before any model is built.

    Args:
        precision: "auto" (bfloat16 where the device multiplies it fast, else float32) or one of `PRECISIONS`. "mixed_float16" is for
            GPUs such as the T4, which multiply nothing else fast; "auto" doesn't choose it, since it was never timed on one.
        deterministic: same seed, same numbers on one machine; TensorFlow only (JAX is deterministic on a CPU as it is, and nothing here makes
            it so on a GPU). On a CPU it costs little. On a GPU it costs XLA and the fastest kernels; some have none that is deterministic,
            see `deterministic_if_possible`.
        threads: processor threads an operation uses, which decide its last digits; 0 for as many as this
            process may use (a container or a batch system may give it fewer than there are). TensorFlow only.

    Returns:
        dict of what was chosen, for the run's record.

    Raises:
        ValueError: there's no such precision, or the device or the Keras backend can't train in it, or the backend is none of `BACKENDS`.
    """
    if keras.backend.backend() not in BACKENDS:
        raise ValueError(
            f"KERAS_BACKEND is {keras.backend.backend()!r}, which the GAN's update isn't written for: set it to {' or '.join(BACKENDS)}."
        )
    choices = ("auto", *PRECISIONS)
    if precision not in choices:
        raise ValueError(f"PRECISION is {precision!r}; choose one of {', '.join(choices)}.")
    chosen = fast_precision() if precision == "auto" else precision
    if not can_train_in(chosen):
        raise ValueError(f"PRECISION is {precision!r}, and {device_name()} can't train in it: choose 'float32' or 'auto'.")
    keras.mixed_precision.set_global_policy(chosen)
    deterministic = deterministic and not lost_determinism()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if deterministic:
            tf.config.experimental.enable_op_determinism()
            tf.random.set_seed(0)  # of operations that have none of their own, which it refuses otherwise
        threads = threads or cpu_count()
        with contextlib.suppress(RuntimeError):  # a process that has computed already keeps its threads
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    return {
        "backend": keras.backend.backend(),
        "precision": chosen,
        "deterministic": deterministic,
        "device": device_name(),
        "cores": cpu_count(),
        "threads": num_threads(),
        "platform": platform.system(),
        "packages": package_versions(),
    }


def fast_precision():
    """ "mixed_bfloat16" where the device has bfloat16 matrix instructions, else "float32"."""
    if has_gpu():
        return "mixed_bfloat16" if _gpu_generation() >= AMPERE else "float32"
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & _cpu_flags() else "float32"


def can_train_in(precision):
    """Whether the device and the Keras backend can train in a precision of `PRECISIONS`, fast or not."""
    if precision == "mixed_float16":  # its loss scaling skips updates in a way that only TensorFlow allows in the GAN's
        return keras.backend.backend() == "tensorflow" and (not has_gpu() or _gpu_generation() >= VOLTA)
    return precision == "float32" or not has_gpu() or _gpu_generation() >= AMPERE


def advise_precision(wanted):
    """What to do, as half a sentence, where notebook 1 trained in the precision `wanted` and this process is in another."""
    if can_train_in(wanted):
        return f"set PRECISION = {wanted!r} here, or choose another RUN for all three."
    return (
        f"{device_name()} can't train in {wanted}: go on with a device like notebook 1's, or choose another RUN and "
        "PRECISION = 'float32', which every device has, for all three."
    )


_relaxed = []  # what was trained without determinism in this process, since TensorFlow has no deterministic kernel for a part of it


def deterministic_if_possible(train):
    """Decorate a function that builds a model from seeds and trains it: where TensorFlow has no deterministic kernel for a part of it,
    which happens on GPUs only, it says so and trains without determinism, from the start or the last saved state.
    """

    @functools.wraps(train)
    def train_anyhow(*arguments, **named):
        try:
            return train(*arguments, **named)
        except Exception as error:
            if type(error).__name__ != "UnimplementedError" or "determinis" not in str(error).lower():
                raise
        from tensorflow.python.framework import config

        config.disable_op_determinism()
        _relaxed.append(train.__name__)
        print(
            "TensorFlow has no deterministic kernel on this device for a part of this training: it goes on without, and the same "
            "seed will not give the same last digits."
        )
        return train(*arguments, **named)

    return train_anyhow


def lost_determinism():
    """Whether this process can't promise the same numbers again: it relaxed determinism, or computes with JAX on a GPU."""
    return bool(_relaxed) or (keras.backend.backend() != "tensorflow" and has_gpu())


def num_threads():
    """Processor threads that an operation uses."""
    if keras.backend.backend() != "tensorflow":
        return cpu_count()
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads() or cpu_count()


def memory():
    """Bytes that this process may use: the machine's, or what its container is given."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    given = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, int(given)) if given.isdigit() else machine


def has_gpu():
    """Whether the models run on a GPU."""
    return bool(_gpu_details())


@contextlib.contextmanager
def configured(precision, deterministic, threads):
    """Configure the process for a training; then free what its models hold, and compute in the precision of before, as a notebook in
    which units are trained must go on doing. Arguments as those of `configure`.
    """
    before = keras.mixed_precision.dtype_policy()
    configure(precision, deterministic, threads)
    try:
        yield
    finally:
        keras.backend.clear_session()  # which forgets the precision, too
        keras.mixed_precision.set_dtype_policy(before)


def use_jit():
    """What to pass to `compile(jit_compile=…)`: XLA pays on an accelerator; with TensorFlow on a CPU it's several times slower.

    "auto" leaves the rest to Keras, which with TensorFlow does without XLA where results have to be deterministic.
    """
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if _gpu_details() else False


@contextlib.contextmanager
def feed(batches):
    """Yield what to give to `fit` for an endless `keras.utils.PyDataset` whose batches are all of one size.

    With TensorFlow a thread makes each batch while the one before is computed with; their order and contents stay. It ends with the
    block, and what it raises, the block raises. TensorFlow's own `prefetch` does nothing where results have to be deterministic;
    otherwise a thread tunes how far it reads ahead, and the end of a training can wait for that thread as long as the training took.
    JAX takes the batches as they are, one after the other.
    """
    if keras.backend.backend() != "tensorflow":
        yield batches
        return
    import tensorflow as tf

    failed = []
    with ThreadPoolExecutor(1) as thread:

        def take():
            coming = thread.submit(batches.__getitem__, 0)
            for step in itertools.count(1):
                try:
                    batch = coming.result()
                except Exception as error:
                    failed.append(error)  # TensorFlow would make a text of it
                    raise
                coming = thread.submit(batches.__getitem__, step)
                yield batch

        signature = keras.tree.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), batches[0])
        options = tf.data.Options()
        options.autotune.enabled = False
        try:
            yield tf.data.Dataset.from_generator(take, output_signature=signature).with_options(options)
        except tf.errors.OpError:
            if failed:
                raise failed[0] from None
            raise


def pullback(function, *inputs):
    """Run a function once, forward, and keep what its backward passes need.

    Args:
        function: `inputs` → (tuple of outputs, anything else it computed).
        inputs: tensors or lists of tensors.

    Returns:
        outputs, the anything else, and `pull`: (number of an output, number of an input, gradient of the output, by default ones) →
        gradient of the input, a tensor or list of tensors.
    """
    if keras.backend.backend() == "jax":
        import jax

        outputs, pull_all, extra = jax.vjp(function, *inputs, has_aux=True)

        def pull(output, wanted, gradient=None):
            gradients = [keras.ops.zeros_like(other) for other in outputs]
            gradients[output] = keras.ops.ones_like(outputs[output]) if gradient is None else gradient
            return pull_all(tuple(gradients))[wanted]

        return outputs, extra, pull
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs, extra = function(*inputs)
    return (
        outputs,
        extra,
        lambda output, wanted, gradient=None: tape.gradient(outputs[output], inputs[wanted], output_gradients=gradient),
    )


def read(variables):
    """What the variables hold now, as a list of tensors for `stateless_call`."""
    return [keras.ops.convert_to_tensor(variable.value) for variable in variables]


def assign(variables, values):
    """Give each variable its new value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def run_update(model, update, *arguments):
    """The body of a custom `train_step` for either backend.

    Args:
        model: compiled; its metrics are logged.
        update: a function of a batch of images that assigns to the model's variables and applies its optimizers. The variables of an
            optimizer other than `model.optimizer` must be held by an attribute of the model.
        arguments: as Keras passes them: `(data)` on TensorFlow, `(state, data)` on JAX.

    Returns:
        what Keras expects: logs on TensorFlow, logs and the new state on JAX.
    """
    data = arguments[-1]
    images = data[0] if isinstance(data, (tuple, list)) else data
    if keras.backend.backend() == "tensorflow":
        update(images)
        return _results(model)
    groups = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    pairs = [
        pair for variables, values in zip(groups, arguments[0], strict=True) for pair in zip(variables, values, strict=True)
    ]
    with keras.StatelessScope(state_mapping=pairs) as scope:
        update(images)
        logs = _results(model)
    new = lambda variable: variable.value if (value := scope.get_current_value(variable)) is None else value  # noqa: E731
    return logs, tuple([new(variable) for variable in variables] for variables in groups)


def _results(model):
    """The model's own metrics; Keras adds one named "loss" that only its own `train_step` fills."""
    return {metric.name: metric.result() for metric in model.metrics if metric.name != "loss"}


def device_name():
    """The processor or GPU the models run on, as its maker calls it."""
    gpu = _gpu_details()
    return gpu.get("device_name", "GPU") if gpu else _cpu_name()


def package_versions():
    """{package: version} of the packages whose version can change a result."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_gb():
    """The most memory this process has held so far, in GB (10⁹ bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _gpu_generation():
    """The first number of the GPU's compute capability, e.g. 7 of a T4 and 8 of an A100; 0 where it isn't known."""
    return _gpu_details().get("compute_capability", (0, 0))[0]


def _gpu_details():
    """{"device_name": …, "compute_capability": (8, 0)} of the first GPU that the backend sees; empty on a CPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return {"device_name": "GPU"} | tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform == "cpu":
            return {}
        capability = str(getattr(device, "compute_capability", "8.0"))
        return {"device_name": device.device_kind, "compute_capability": tuple(map(int, capability.split(".")))}
    return {}


def _cpu_info():
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}


def _cpu_flags():
    return set(_cpu_info().get("flags", "").split())


def _cpu_name():
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


class Adam(keras.optimizers.Adam):
    """Keras' Adam. On TensorFlow the step of a weight is one operation instead of fifteen small ones; the numbers differ by rounding alone."""

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow":
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        step = keras.ops.cast(self.iterations + 1, "float32")
        place = self._get_variable_index(variable)
        weight, mean, square = (
            (state.value if isinstance(state, keras.Variable) else state).handle
            for state in (variable, self._momentums[place], self._velocities[place])
        )
        tf.raw_ops.ResourceApplyAdam(
            **{"var": weight, "m": mean, "v": square, "lr": learning_rate, "grad": gradient, "epsilon": self.epsilon},
            **{"beta1": self.beta_1, "beta2": self.beta_2, "beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step},
        )
