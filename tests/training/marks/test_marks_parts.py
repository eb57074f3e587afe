"""The parts of the mark's training: what each promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from torch import Tensor  # noqa: E402

from reelsight.errors import ConfigError, RunError  # noqa: E402
from training.marks import codec_pool  # noqa: E402
from training.marks.attacks import ATTACKS, AttackDraw, attack  # noqa: E402
from training.marks.calibrate import centre, temper  # noqa: E402
from training.marks.carriers import first_carriers  # noqa: E402
from training.marks.codec_pool import CodecJob, CodecPool, recode  # noqa: E402
from training.marks.embedder import Embedder  # noqa: E402
from training.marks.evaluate import auc  # noqa: E402
from training.marks.extractor import Extractor  # noqa: E402
from training.marks.film import active_box  # noqa: E402
from training.marks.pack import unpack  # noqa: E402
from training.marks.quantising import block_quantise, jpeg_steps, to_pixels  # noqa: E402
from training.marks.recipe import FULL, TINY, Shape  # noqa: E402
from training.marks.schedule import Schedule  # noqa: E402
from training.marks.synthetic import draw_pictures  # noqa: E402
from training.marks.visibility import lock_psnr, psnr, ssim, visibility_map  # noqa: E402


def _luma(count: int, side: int = 64) -> Tensor:
    return torch.from_numpy(draw_pictures(count, side, seed=5)).float()[:, None]


def test_full_networks_fit_their_limits() -> None:
    sizes = [
        sum(p.numel() for p in part.parameters()) * 4 + sum(b.numel() for b in part.buffers()) * 4
        for part in (Embedder(FULL.shape), Extractor(FULL.shape))
    ]
    assert sizes[0] < 5e6
    assert sizes[1] < 11e6


def test_the_extractor_holds_only_what_int8_engines_fuse() -> None:
    allowed = {"Conv2d", "BatchNorm2d", "ReLU", "Identity", "AvgPool2d", "Linear"}
    containers = {"Extractor", "Sequential", "Bottleneck", "HighPass"}
    assert {type(m).__name__ for m in Extractor(FULL.shape).modules()} <= allowed | containers
    for part in Extractor(FULL.shape).modules():
        if isinstance(part, torch.nn.Conv2d):
            assert part.out_channels % 32 == 0


def test_carriers_stay_in_their_band_and_apart() -> None:
    shape = FULL.shape
    tables = first_carriers(shape, np.random.default_rng(1))
    power = torch.fft.rfft2(tables).abs().square()
    vertical = torch.fft.fftfreq(shape.grid, 1 / shape.grid)[:, None]
    radius = torch.sqrt(vertical**2 + torch.fft.rfftfreq(shape.grid, 1 / shape.grid)[None] ** 2)
    inside = (radius >= shape.band[0] - 1) & (radius <= shape.band[1] + 1)
    assert float(power[:, inside].sum() / power.sum()) > 0.98
    flat = tables.flatten(1)
    alike = (flat @ flat.T / flat.shape[1]).fill_diagonal_(0)
    assert float(alike.abs().max()) < 0.2


def test_an_untrained_embedder_is_plain_spread_spectrum() -> None:
    embedder = Embedder(TINY.shape).eval()
    embedder.masking.fill_(0.0)
    bits = torch.ones(2, TINY.shape.bits)
    bits[1] = 0
    with torch.no_grad():
        residual = embedder(_luma(1).repeat(2, 1, 1, 1), bits, torch.tensor([30.0, 30.0]))
    torch.testing.assert_close(residual[0], -residual[1])


@pytest.mark.parametrize("target", [30.0, 42.0])
def test_strength_is_exact(target: float) -> None:
    residual = torch.randn(3, 1, 64, 64) * torch.tensor([0.1, 1, 30]).view(3, 1, 1, 1)
    host = torch.full_like(residual, 128)
    locked = lock_psnr(residual, torch.full((3,), target))
    torch.testing.assert_close(
        psnr(host, host + locked), torch.full((3,), target), atol=1e-3, rtol=0
    )


def test_more_goes_unnoticed_in_texture() -> None:
    flat, rough = torch.full((1, 1, 64, 64), 128.0), _luma(1)
    rough = 128 + torch.randn_like(rough) * 40
    assert float(visibility_map(rough).mean()) > 1.5 * float(visibility_map(flat).mean())
    torch.testing.assert_close(ssim(rough, rough), torch.ones(1))
    assert float(ssim(rough, flat)) < 0.2


def test_the_cosine_quantiser_is_jpegs() -> None:
    """Against libjpeg: the same tables, so nearly the same pixels."""
    import io

    from PIL import Image

    luma = _luma(3)
    ours = to_pixels(block_quantise(luma, jpeg_steps(torch.full((3,), 50.0)), 0.5))
    for mine, picture in zip(ours, luma, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture[0].byte().numpy()).save(buffer, "JPEG", quality=50)
        theirs = np.asarray(Image.open(buffer), np.float32)
        assert np.abs(mine[0].numpy() - theirs).mean() < 0.4


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_attack_lets_finite_gradients_through(name: str) -> None:
    torch.manual_seed(3)
    luma = _luma(4).requires_grad_()
    draws = torch.zeros(4, len(ATTACKS), dtype=torch.bool)
    draws[:3, list(ATTACKS).index(name)] = True
    seen = attack(luma, draws, (name,), 1.0, np.random.default_rng(0))
    assert bool(((seen >= 0) & (seen <= 255) & (seen == seen.round())).all())
    assert torch.equal(seen[3], luma[3].detach().round())
    seen.mean().backward()
    assert luma.grad is not None
    assert bool(torch.isfinite(luma.grad).all())
    assert float(luma.grad[:3].abs().sum()) > 0
    if name not in ("identity",):
        assert not torch.equal(seen[:3], luma[:3].detach().round())


def test_the_worst_attack_is_drawn_most() -> None:
    torch.manual_seed(4)
    draw = AttackDraw(torch.device("cpu"))
    names = ("blur", "jpeg")
    for _ in range(200):
        rows = draw.draw(32, names, 0.0)
        wrong = torch.where(rows[:, list(ATTACKS).index("jpeg")], 0.4, 0.0)
        draw.learn(rows, wrong)
    rows = draw.draw(4000, names, 0.0)
    counts = dict(zip(ATTACKS, rows.sum(0).tolist(), strict=True))
    assert counts["jpeg"] > 5 * counts["blur"] > 0
    assert counts["jpeg"] + counts["blur"] == 4000


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_processes_recode_clips_as_the_caller_would(codec: str) -> None:
    still = draw_pictures(2, 64, seed=9)
    planes = np.stack([np.roll(still, shift, 2) for shift in range(4)], 1).clip(16, 235)
    jobs = [CodecJob(codec, crf, "ultrafast") for crf in (18, 36)]
    pool = CodecPool(2, clips=2, frames=4, side=64)
    try:
        pool.submit(planes, jobs)
        with pytest.raises(RunError, match="busy"):
            pool.submit(planes, jobs)
        decoded = pool.collect()
        pool.submit(planes, [CodecJob("h264", 20, "no-such-preset")] * 2)
        with pytest.raises(RunError, match="encoder failed"):
            pool.collect()
    finally:
        pool.close()
    for clip, job, source in zip(decoded, jobs, planes, strict=True):
        np.testing.assert_array_equal(clip, recode(source, job))
    errors = np.abs(decoded.astype(int) - planes).mean((1, 2, 3))
    assert 0 < errors[0] < errors[1] < 20


def test_encoders_that_were_ended_are_not_waited_for_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec_pool, "_WAIT_S", 0.1)
    pool = CodecPool(1, clips=1, frames=2, side=64)
    (process,) = pool._processes
    process.kill()
    process.join()
    pool.submit(np.zeros((1, 2, 64, 64), np.uint8), [CodecJob("h264", 20, "ultrafast")])
    with pytest.raises(RunError, match="gave nothing"):
        pool.collect()
    pool.close()


def test_stages_share_what_an_early_end_leaves() -> None:
    schedule = Schedule(FULL, 1000)
    assert [schedule.place(s).stage.name for s in (0, 60, 500, 700, 950)] == [
        *("warm", "joint", "codec", "hardening", "extractor"),
    ]
    assert schedule.place(0, at_least=2).index == 2
    shares = [b - a for a, b in zip(schedule.ends, schedule.ends[1:], strict=False)]
    schedule.move_end(0, 0.02)
    moved = [b - a for a, b in zip(schedule.ends, schedule.ends[1:], strict=False)]
    assert schedule.ends[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(np.divide(moved, shares), 0.98 / 0.95)
    assert schedule.rate(schedule.place(999), 10_000) < 0.02 * FULL.rate


def test_calibration_centres_and_scales() -> None:
    torch.manual_seed(6)
    extractor = Extractor(TINY.shape).eval()
    pixels = _luma(16)
    with torch.no_grad():
        extractor.last.bias.fill_(3.0)
        centre(extractor, extractor(pixels)[0])
        assert float(extractor(pixels)[0].mean(0).abs().max()) < 1e-4
        bits = torch.randint(0, 2, (4000, 4)).float()
        # Log odds of the truth, three times too sure.
        true = (bits * 2 - 1) * 2 + torch.randn(4000, 4) * 2
        assert temper(extractor, 3 * true, bits) == pytest.approx(3.0, rel=0.1)


def test_auc_counts_ties_as_half() -> None:
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])) == pytest.approx(0.875)


def test_a_pack_gives_its_photographs_back(photo_pack: Path, tmp_path: Path) -> None:
    photos = unpack(photo_pack)
    assert photos.shape == (40, 80, 80)
    assert photos.std((1, 2)).min() > 1
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no pack")
    with pytest.raises(ConfigError, match="not a pack"):
        unpack(broken)


def test_shapes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        Shape(size=250)
    with pytest.raises(ConfigError):
        Shape(band=(8, 60))


def test_bars_are_not_marked() -> None:
    frames = np.full((3, 96, 64), 16, np.uint8)
    frames[:, 8:56, 4:60] = draw_pictures(3, 64, seed=2)[:, 8:56, 4:60] // 2 + 100
    assert active_box(frames) == (8, 56, 4, 60)
    assert active_box(np.full((1, 96, 64), 16, np.uint8)) == (0, 64, 0, 64)
