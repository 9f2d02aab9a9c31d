"""The recordings that ship: how many, whose, and that no split leaks."""

import numpy as np
import torch

from workloads.watch import WATCH
from workloads.watch.recordings import read_recordings
from workloads.watch.windows import cut, split


def test_twenty_devices_hold_3605_windows() -> None:
    """Windows of 128 samples every 64, six channels, as published."""
    streams = WATCH.streams()
    assert len(streams) == 20
    assert sum(len(stream) for stream in streams) == 3605
    assert {recording.examples.x.shape[1:] for stream in streams for recording in stream.recordings} == {(6, 128)}
    assert all([recording.name for recording in stream.recordings] == list(WATCH.classes) for stream in streams)


def test_devices_are_labelled_and_three_people_are_unseen() -> None:
    """Names and labels are what the hub filters by."""
    by_name = {stream.device: stream.labels for stream in WATCH.streams()}
    assert by_name["p01-right"] == {"person": "01", "arm": "right", "role": "learner"}
    assert by_name["p10-left"] == {"person": "10", "arm": "left", "role": "unseen"}
    unseen = {labels["person"] for labels in by_name.values() if labels["role"] == "unseen"}
    assert unseen == {"08", "09", "10"}


def test_windows_follow_each_other_in_time() -> None:
    """Each window is the 128 samples that begin 64 after the one before."""
    recording = read_recordings()[0]
    examples = cut(recording)
    assert np.array_equal(examples.x[3].T, recording.samples[3 * 64 : 3 * 64 + 128])


def test_the_hub_holds_only_right_arms_of_people_1_to_7() -> None:
    """Every window of the hub is found in one of those seven streams, none in any other."""
    data = WATCH.hub_data()
    hub = {window.tobytes() for part in (data.train, data.holdout) for window in part.x}
    owners = {
        stream.device
        for stream in WATCH.streams()
        for recording in stream.recordings
        for window in recording.examples.x
        if window.tobytes() in hub
    }
    assert owners == {f"p{person:02}-right" for person in range(1, 8)}
    assert (len(data.train), len(data.holdout)) == (904, 210)


def test_no_sample_of_a_holdout_is_in_training() -> None:
    """Neighbouring windows share samples; the window between is dropped."""
    for recording in read_recordings()[:14]:
        examples = cut(recording)
        train, holdout = split(examples)
        end_of_training = (len(train) - 1) * 64 + 128
        start_of_holdout = (len(examples) - len(holdout)) * 64
        assert end_of_training <= start_of_holdout


def test_the_digest_names_the_data_and_changes_with_it() -> None:
    """The lineage of a version rests on it."""
    data = WATCH.hub_data()
    assert len(data.digest) == 64
    assert data.digest == WATCH.hub_data().digest
    data.train.x[0, 0, 0] += 1
    assert data.digest != WATCH.hub_data().digest


def test_a_model_is_the_same_for_the_same_seed() -> None:
    """And another for another, without touching torch's global state."""
    state = torch.random.get_rng_state()
    first, again, other = WATCH.model(1), WATCH.model(1), WATCH.model(2)
    weights = [model.get_parameter("head.weight") for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_normalisation_is_in_the_model_and_not_trained() -> None:
    """Devices send raw windows; the constants are buffers from the hub's training data."""
    model = WATCH.model(0)
    assert {name for name, _ in model.named_buffers()} == {"mean", "scale"}
    x = torch.from_numpy(WATCH.hub_data().train.x)
    standardised = (x - model.get_buffer("mean")) * model.get_buffer("scale")
    assert torch.allclose(standardised.mean((0, 2)), torch.zeros(6), atol=1e-3)
    assert torch.allclose(standardised.std((0, 2)), torch.ones(6), atol=1e-3)
