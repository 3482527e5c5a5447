"""Augmentation: what each change does to an image, and that a batch is a function of seed and update alone."""

import pytest
import torch
from torchvision.transforms import functional

from normtables.data import Dataset, Split
from normtables.data.pixels import Pixels
from normtables.errors import UserError
from normtables.tasks import TASKS, augment
from normtables.tasks.augment import AUGMENTS, augmented


def images(n=40, side=8, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def pixels(n=40, side=18, size=16):
    stored = (images(n, side) * 255).round().to(torch.uint8)
    mean, deviation = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    return Pixels(stored, torch.arange(n - 1, -1, -1), mean, deviation, size)


CHOSEN = torch.tensor([5, 3, 39, 0, 3, 17])


def test_none_is_the_images_themselves():
    whole = images()
    assert torch.equal(augmented("none", whole, CHOSEN, 0, 0), whole[CHOSEN])
    stored = pixels()
    assert torch.equal(augmented("none", stored, CHOSEN, 0, 0), stored.index_select(0, CHOSEN))


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("inputs", [images(), pixels()], ids=["tensor", "pixels"])
def test_a_batch_is_a_function_of_seed_and_update(name, inputs):
    torch.manual_seed(1)
    first = augmented(name, inputs, CHOSEN, 1, 7)
    state = torch.get_rng_state()
    assert torch.equal(augmented(name, inputs, CHOSEN, 1, 7), first)
    assert torch.equal(torch.get_rng_state(), state), "dropout's source is left alone"
    assert first.shape == (6, *inputs.shape[1:])
    others = [augmented(name, inputs, CHOSEN.repeat(5), seed, step)[:6] for seed, step in ((2, 7), (1, 8), (7, 1))]
    assert all(not torch.equal(other, first) for other in others)


def test_half_of_the_images_are_mirrored():
    whole = images(1)
    found = augmented("flip", whole, torch.zeros(400, dtype=torch.int64), 0, 0)
    mirrored = [torch.equal(image, whole[0].flip(-1)) for image in found]
    assert all(m or torch.equal(image, whole[0]) for m, image in zip(mirrored, found))
    assert 150 < sum(mirrored) < 250


def windows(picture, size):
    """Every window of a picture and its mirror image."""
    tiles = picture.unfold(1, size, 1).unfold(2, size, 1)
    found = tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size)
    return torch.cat([found, found.flip(-1)])


def test_a_window_lies_anywhere_in_the_picture_with_a_margin_of_zeros():
    whole = images(1, 16)
    found = augmented("flip_crop", whole, torch.zeros(500, dtype=torch.int64), 0, 0)
    possible = windows(torch.nn.functional.pad(whole[0], [2] * 4), 16)
    which = [torch.nonzero((possible == image).all((1, 2, 3))).flatten().tolist() for image in found]
    assert all(which)
    assert len({w[0] for w in which}) == len(possible) == 2 * 5 * 5


def test_a_window_of_a_larger_stored_picture_needs_no_margin():
    stored = pixels()
    found = augmented("flip_crop", stored, torch.full((300,), 4), 0, 0)
    possible = windows(stored.whole(torch.tensor([4]))[0], 16)
    possible = (possible - stored.mean) / stored.deviation
    which = [torch.nonzero((possible == image).all((1, 2, 3))).flatten().tolist() for image in found]
    assert all(which)
    assert len({w[0] for w in which}) == 2 * 3 * 3


def drawn(*values):
    return torch.tensor(values).view(4, 1, 1, 1, 1)


def area(share):
    """The number 0..1 that draws a crop of this share of the picture."""
    return (share - 0.08) / 0.92


def test_a_crop_of_everything_is_the_picture():
    whole = images(2)
    found = augment.crop(whole, drawn(area(1.0), 0.5, 0.3, 0.8).repeat(1, 2, 1, 1, 1), 8)
    assert torch.allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)])
def test_a_crop_of_a_quarter_is_that_quarter(x, y):
    whole = images(1)
    left, top = int(4 * x), int(4 * y)
    found = augment.crop(whole, drawn(area(0.25), 0.5, x, y), 4)
    assert torch.allclose(found, whole[:, :, top : top + 4, left : left + 4], atol=1e-5)


def test_a_crop_may_be_wider_than_high():
    """Half the area at 4 : 3 and at 3 : 4: a slope along the rows tells the width."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    for aspect, share in ((1.0, (0.5 * 4 / 3) ** 0.5), (0.0, (0.5 * 3 / 4) ** 0.5)):
        found = augment.crop(ramp, drawn(area(0.5), aspect, 0.5, 0.5), 64)
        assert (found[0, 0, 0, -1] - found[0, 0, 0, 0]).item() == pytest.approx(share, abs=1e-4)
        assert torch.allclose(found[0, 0, 0], found[0, 0, -1], atol=1e-5)


@pytest.mark.parametrize(("number", "factor"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (0.8, 1.3)])
def test_colours_are_torchvisions(number, factor):
    whole = images(3) * 0.2 + 0.3  # far enough from 0 and 1 that torchvision's clamps do nothing in between
    adjust = [functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation]
    for which, change in enumerate(adjust):
        numbers = [0.5, 0.5, 0.5, 0.5]
        numbers[which] = number
        found = augment.colours(0.5)(whole, drawn(*numbers).repeat(1, 3, 1, 1, 1), 8)
        assert torch.allclose(found, change(whole, factor), atol=1e-3)


def test_colours_stay_in_range():
    found = augment.colours(0.5)(images(), torch.ones(4, 40, 1, 1, 1), 8)
    assert found.min() >= 0
    assert found.max() == 1


def data(inputs):
    split = Split(inputs, torch.arange(len(inputs)) % 3)
    return Dataset(split, split, split, 3)


def build(inputs, name, seed=0):
    return TASKS.build({"name": "classify", "augment": name}, data(inputs), 8, seed)


@pytest.mark.parametrize("name", ["none", *AUGMENTS])
def test_the_stream_goes_on_anywhere(name):
    task = build(pixels(), name)
    stream, later = task.batches(None, 0), task.batches(None, 6)
    for _ in range(6):
        next(stream)
    for (one, targets), (other, same) in zip([next(stream) for _ in range(3)], later):
        assert torch.equal(one, other)
        assert torch.equal(targets, same)


def test_images_of_one_epoch_come_back_changed():
    task = build(images(8), "flip_crop")
    stream = task.batches(None, 0)
    (first, targets), (second, others) = next(stream), next(stream)
    assert sorted(targets.tolist()) == sorted(others.tolist())
    assert not torch.allclose(first.sum((1, 2, 3)).sort().values, second.sum((1, 2, 3)).sort().values)


def test_evaluation_sees_the_images_as_they_are():
    seen = []

    class Model(torch.nn.Module):
        def forward(self, inputs):
            seen.append(inputs)
            return inputs.flatten(1)[:, :3]

    stored = pixels()
    build(stored, "inception").evaluate(Model())
    assert torch.equal(torch.cat(seen)[:40], stored.index_select(0, torch.arange(40)))


@pytest.mark.parametrize(
    ("inputs", "name", "says"),
    [
        (torch.rand(9, 5), "flip", "augment=flip: it changes images"),
        (torch.rand(9, 1, 4, 4), "inception", "augment=inception: it changes colours, and these images are grey"),
        (images() - 0.5, "inception_weak", "set dataset.scale=unit and dataset.prep=none"),
        (images() * 2, "inception", "set dataset.scale=unit and dataset.prep=none"),
    ],
)
def test_inputs_of_another_kind_are_refused(inputs, name, says):
    with pytest.raises(UserError) as error:
        build(inputs, name)
    assert says in str(error.value)


def test_what_may_be_changed_is():
    build(torch.rand(9, 1, 4, 4) - 3, "flip_crop")
    build(images(), "inception")
    with pytest.raises(UserError, match="augment='rotate' should be one of none, flip"):
        build(images(), "rotate")
