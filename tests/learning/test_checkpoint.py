"""Checkpoints: a training that was stopped goes on as if it had not been, and another training is refused."""

import functools

import jax
import numpy as np
import optax
import pytest

import smdpx as sx
from smdpx.learning._fingerprint import digest
from tests._trainings import KEY, PATHS, SHORT, P, fit, g, mlp, weights


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", [10, 44], ids=["within a stage", "in the next"])
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, stop):
    curriculum = [*SHORT, sx.Stage(3, 20, 1e-3, batch=16)]
    file = tmp_path / "run" / "state.eqx"

    def interrupt(progress):
        if progress.update >= stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(curriculum=curriculum, checkpoint=file, callback=interrupt)
    seen = []
    resumed = fit(curriculum=curriculum, checkpoint=file, callback=seen.append)
    assert stop < seen[0].update <= stop + 2
    np.testing.assert_array_equal(weights(resumed), weights(fit(curriculum=curriculum)))


def test_a_finished_training_is_not_repeated(tmp_path):
    seen = []
    done = fit(checkpoint=tmp_path / "state.eqx")
    again = fit(checkpoint=tmp_path / "state.eqx", callback=seen.append)
    assert seen == []
    np.testing.assert_array_equal(weights(done), weights(again))


OTHERS = {
    "key": {"key": jax.random.key(7)},
    "curriculum": {"curriculum": [*SHORT, sx.Stage(3, 20, batch=16)]},
    "loss": {"loss": sx.WindowLoss(weights=lambda j: 1 / j)},
    "optimizer": {"optimizer": optax.sgd},
    "average": {"average": 0.5},
    "equation": {"s": sx.Score(sx.nn.MLP(widths=(5,), key=KEY), g)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_an_error_that_names_what_differs(tmp_path, what):
    fit(checkpoint=tmp_path / "state.eqx")
    with pytest.raises(ValueError, match=rf"by a training with another {what}\. .*delete the file"):
        fit(checkpoint=tmp_path / "state.eqx", **OTHERS[what])


def test_a_checkpoint_of_other_data_is_an_error_too(tmp_path):
    fit(checkpoint=tmp_path / "state.eqx")
    with pytest.raises(ValueError, match="another data"):
        sx.fit(-P + 2 * mlp(), PATHS[1:], key=KEY, curriculum=SHORT, checkpoint=tmp_path / "state.eqx")


def test_a_shorter_curriculum_does_not_return_what_a_longer_one_began(tmp_path):
    fit(curriculum=[*SHORT, sx.Stage(3, 20, batch=16)], checkpoint=tmp_path / "state.eqx")
    with pytest.raises(ValueError, match="another curriculum"):
        fit(checkpoint=tmp_path / "state.eqx")


RATE, NESTED = 1.0, {"rates": np.ones(2)}


def reads_a_global(x):
    return [RATE * y + NESTED["rates"][0] for y in calls(x)]


def calls(x):
    return (x + RATE,)


def test_a_function_is_another_where_a_global_number_that_it_reads_is(monkeypatch):
    before = digest(reads_a_global)
    assert digest(reads_a_global) == before
    monkeypatch.setitem(globals(), "RATE", 2.0)
    assert digest(reads_a_global) != before
    monkeypatch.setitem(globals(), "RATE", 1.0)
    monkeypatch.setitem(globals(), "NESTED", {"rates": np.zeros(2)})
    assert digest(reads_a_global) != before
    monkeypatch.setitem(globals(), "NESTED", {"rates": np.ones(2)})
    monkeypatch.setitem(globals(), "calls", lambda x: (x - 1,))
    assert digest(reads_a_global) != before


def test_functions_are_told_apart_by_their_code_and_what_they_close_over():
    def power(k):
        return lambda j: j**k

    assert digest(power(2)) == digest(power(2)) != digest(power(3))
    assert digest(lambda j: j + 1) != digest(lambda j: j + 2)
    assert digest(jax.jit(power(2))) != digest(jax.jit(power(3)))
    assert digest(functools.partial(pow, exp=2)) != digest(functools.partial(pow, exp=3))


def test_a_checkpoint_that_is_cut_off_says_so(tmp_path):
    file = tmp_path / "state.eqx"
    fit(checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off or damaged.*Copy it again.*delete the file"):
        fit(checkpoint=file)


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "state.eqx").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="no checkpoint of `fit`"):
        fit(checkpoint=tmp_path / "state.eqx")
