import numpy as np
import pytest

from visual_rft.vision.coordinates import CoordinateSpace, Frame


@pytest.mark.parametrize("space", list(CoordinateSpace))
def test_pixels_to_model_and_back_is_within_rounding(space):
    rng = np.random.default_rng(0)
    for _ in range(500):
        width, height = rng.integers(8, 3000, 2).tolist()
        processed = tuple(rng.integers(28, 1500, 2).tolist())
        frame = Frame.of(space, (width, height), processed)
        x = np.sort(rng.uniform(0, width, 2))
        y = np.sort(rng.uniform(0, height, 2))
        box = (x[0], y[0], x[1], y[1])
        unit = np.array([width / frame.extent[0], height / frame.extent[1]] * 2)
        back = np.array(frame.to_pixels(frame.from_pixels(box)))
        # half a unit of rounding, plus one unit where a box thinner than a unit was widened
        assert (np.abs(back - box) <= 1.5 * unit + 1e-9).all()
        wide = (np.array(box[2:]) - box[:2] > 1.5 * unit[:2]).all()
        if wide:
            assert (np.abs(back - box) <= 0.5 * unit + 1e-9).all()


def test_the_result_is_always_a_valid_box_inside_the_space():
    frame = Frame.of(CoordinateSpace.RELATIVE_1000, (4000, 10))
    for box in ((3999.9, 0.0, 4000.0, 0.001), (0.0, 0.0, 0.1, 10.0)):
        x1, y1, x2, y2 = frame.from_pixels(box)
        assert 0 <= x1 < x2 <= 1000
        assert 0 <= y1 < y2 <= 1000


def test_processed_pixels_need_the_processed_size():
    with pytest.raises(ValueError, match="processor's resize"):
        Frame.of(CoordinateSpace.PROCESSED_PIXELS, (10, 10))
