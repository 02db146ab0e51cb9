"""Agreement with mlstm_kernels' native functions, and where it is known to differ."""

import pytest
import torch

from allometry.kernels import mlstm, mlstm_step, reference

peer = pytest.importorskip("mlstm_kernels.torch", reason="mlstm_kernels is an optional peer")
# Their import starts torch's compiler, which warns about its own use of TorchScript (torch 2.13).
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)
CHUNKWISE = ("chunkwise--native_autograd", "chunkwise--native_custbw")


def study_case(draw, time=256):
    inputs, _ = draw(1, (2, 2, time, 16, 32), gates="study", dtype=torch.float32)
    return [x.requires_grad_() for x in inputs]


@pytest.mark.parametrize("name", [CHUNKWISE[0], "parallel--native_autograd"])
@pytest.mark.parametrize("gates", ["study", "wide"])
def test_forward_agrees(draw, name, gates):
    inputs, _ = draw(2, (2, 2, 256, 16, 32), gates=gates)  # float64: only the formula is compared
    theirs, (h, _) = peer.get_mlstm_kernel(name)(*inputs, chunk_size=64), mlstm(*inputs)
    assert float((h - theirs).abs().max() / theirs.abs().max()) < 1e-5


@pytest.mark.parametrize("name", CHUNKWISE)
def test_gradients_agree_behind_a_layer_norm(draw, name):
    inputs = study_case(draw)

    def grads(h):
        # Scale-invariant to 1e-6 of h: what they drop is then of that order (eps 1e-12 of h^2).
        normed = torch.nn.functional.layer_norm(h, h.shape[-1:], eps=1e-20)
        weight = torch.linspace(-1, 1, normed.numel()).view(normed.shape)
        return torch.autograd.grad((normed * weight).sum(), inputs)

    theirs = grads(peer.get_mlstm_kernel(name)(*inputs, chunk_size=64))
    ours = grads(mlstm(*inputs)[0])
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-3


def test_without_a_norm_they_drop_the_normaliser_and_we_do_not(draw):
    inputs, _ = draw(3, (1, 2, 128, 16, 32), gates="wide")
    leaves = [x.requires_grad_() for x in inputs]
    truth = torch.autograd.grad(reference.recurrent(*leaves)[0].sum(), leaves)
    ours = torch.autograd.grad(mlstm(*leaves)[0].sum(), leaves)
    single = [x.detach().float().requires_grad_() for x in leaves]
    custom = peer.get_mlstm_kernel(CHUNKWISE[1])
    theirs = torch.autograd.grad(custom(*single, chunk_size=64).sum(), single)
    for name, a, b, true in zip("qkvif", ours, theirs, truth, strict=True):
        assert float((a - true).norm() / true.norm()) < 1e-9
        if name != "v":
            assert float((b - true).norm() / true.norm()) > 0.05, name


def test_decode_step_agrees(draw):
    inputs, (C, n, m) = draw(4, (2, 3, 1, 16, 32), dtype=torch.float32)
    q, k, v, i, f = (x[:, :, 0] for x in inputs)
    theirs, (C2, n2, m2) = peer.get_mlstm_step_kernel("native")(
        q=q, k=k, v=v, i=i[..., None], f=f[..., None], c=C, n=n, m=m[..., None]
    )
    h, (C1, n1, m1) = mlstm_step(q, k, v, i, f, state=(C, n, m))
    torch.testing.assert_close(h, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(C1, C2)
    torch.testing.assert_close(n1, n2)
    torch.testing.assert_close(m1, m2[..., 0])
