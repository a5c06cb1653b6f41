"""Linear-chain conditional random fields: scores of paths, their sum, and the best one.

Sizes: batch B, length L, K tags. Functions take time first, emissions (L, B, K), and a
mask (L, B) of booleans, true on a prefix of each sequence; `CRF` also takes (B, L, K).
`start` (K,), `transitions` (K, K; from, to) and `end` (K,) are scores, any finite
numbers; FORBIDDEN stands for −∞.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

FORBIDDEN = -1e4  # exp of it is 0, yet sums and differences of it stay finite


def path_scores(emissions, tags, mask, start, transitions, end) -> Tensor:
    """Score of the path `tags` (L, B) of each sequence: (B,).

    s(x, y) = start[y₁] + Σ emissions[t, yₜ] + Σ transitions[yₜ₋₁, yₜ] + end[y_last].
    """
    last = mask.sum(0, keepdim=True) - 1
    emitted = emissions.gather(2, tags[..., None])[..., 0]  # (L, B)
    steps = tags[:-1] * len(start) + tags[1:]  # a pair of tags as one number
    moved = transitions.flatten()[steps]  # (L − 1, B)
    inside = (emitted * mask).sum(0) + (moved * mask[1:]).sum(0)
    return start[tags[0]] + inside + end[tags.gather(0, last)[0]]


def forward_scores(emissions, mask, start, transitions) -> Tensor:
    """The forward algorithm in logarithms: alphas (L, B, K).

    alphas[t, b, j] is the logarithm of the sum of exp(score) over all paths that end in
    tag j at position t. After a sequence's end its last row is repeated.
    """
    alphas = [start + emissions[0]]  # (B, K)
    for emission, inside in zip(emissions[1:], mask[1:], strict=True):
        grown = torch.logsumexp(alphas[-1][:, :, None] + transitions, dim=1) + emission
        alphas.append(torch.where(inside[:, None], grown, alphas[-1]))
    return torch.stack(alphas)


def backward_scores(emissions, mask, transitions, end) -> Tensor:
    """The same from the other side: betas (L, B, K).

    betas[t, b, i] is the logarithm of the sum of exp(score) over all ways to go on from
    tag i at position t, to the end; the score at t itself is not in it.
    """
    betas = [end.expand_as(emissions[0])]  # (B, K)
    for emission, inside in zip(emissions[1:].flip(0), mask[1:].flip(0), strict=True):
        onward = (emission + betas[-1])[:, None, :]
        grown = torch.logsumexp(transitions + onward, dim=2)
        betas.append(torch.where(inside[:, None], grown, betas[-1]))
    return torch.stack(betas[::-1])


def log_partition_in_logs(emissions, mask, start, transitions, end) -> Tensor:
    """log Z (B,), the logarithm of the sum of exp(score) over all paths, by autograd.

    The plain version: autograd keeps L blocks of B·K² numbers for the way back.
    """
    last = forward_scores(emissions, mask, start, transitions)[-1]
    return torch.logsumexp(last + end, dim=1)


@torch.no_grad()
def forward_backward(emissions, mask, start, transitions, end) -> tuple[Tensor, ...]:
    """Both passes in one loop, with probabilities in place of logarithms.

    A logsumexp becomes a product with the matrix exp(transitions), and each row is
    divided by its sum so that it stays in range (Rabiner 1989, section V.A). Returns
    log Z (B,), marginals (L, B, K), expected counts of the transitions (B, K, K), and
    whether all digits can be trusted: false where numbers came too near to zero.
    """
    L, B, K = emissions.shape
    row, place = torch.arange(B).to(mask.device), torch.arange(L).to(mask.device)
    last = mask.sum(0) - 1  # (B,)
    # The way back is a way forth through the mirrored sequence, transitions turned;
    # mirrored within its own length, so that no step of the loop needs the mask.
    mirror = torch.where(mask, last - place[:, None], place[:, None])  # (L, B)
    states = torch.stack([emissions, emissions[mirror, row]], dim=1)  # (L, 2, B, K)
    peak = states.amax(3, keepdim=True)
    states.sub_(peak).exp_()  # at most 1, and nothing overflows
    highest = transitions.max()
    step = (transitions - highest).exp()
    steps = torch.stack([step, step.T])  # (2, K, K)
    tips = torch.stack([start, end])[:, None]  # (2, 1, K)
    tip = tips.amax(2, keepdim=True)

    moved, sums = torch.empty_like(states), torch.empty_like(peak)
    moved[0], before = (tips - tip).exp(), None
    for arrived, state, total in zip(moved, states, sums, strict=True):
        if before is not None:
            torch.bmm(before, steps, out=arrived)
        state.mul_(arrived)
        torch.sum(state, 2, keepdim=True, out=total)
        before = state.div_(total)

    alpha, forth, back = states[:, 0], moved[:, 0], moved[:, 1]
    marginals = back[mirror, row].mul_(alpha)  # the ways here times the ways on
    overlap = marginals.sum(2, keepdim=True)  # (L, B, 1)
    marginals.div_(overlap).mul_(mask[..., None])
    # Tag j at t came from i with probability alpha[t−1, i] · step[i, j] / forth[t, j].
    shares = marginals[1:] / forth[1:]
    counts = step * torch.bmm(alpha[:-1].permute(1, 2, 0), shares.transpose(0, 1))

    logs = (peak + sums.log_())[:, 0, :, 0]  # what was divided out, step by step
    log_z = (logs * mask).sum(0) + last * highest + tip.sum()
    log_z += overlap[last, row, 0].log()
    # What underflowed was below `tiny`; beside sums above tiny/eps it is a rounding.
    limits = torch.finfo(emissions.dtype)
    floor = limits.tiny / limits.eps
    sound = (sums > math.log(floor)).all(3).all(1) & (overlap > floor).all(2)  # (L, B)
    sound[1:] &= (moved[1:] > floor).all(3).all(1)
    return log_z, marginals, counts, (sound | ~mask).all()


class LogPartition(torch.autograd.Function):
    """log Z whose gradient is written down instead of recorded: the expected counts."""

    @staticmethod
    def forward(ctx, emissions, mask, start, transitions, end):
        given = emissions, mask, start, transitions, end
        with torch.autocast(emissions.device.type, enabled=False):
            log_z, marginals, counts, trusted = forward_backward(*given)
        ctx.save_for_backward(marginals, counts, mask.sum(0) - 1)
        ctx.mark_non_differentiable(trusted)
        return log_z, trusted

    @staticmethod
    def backward(ctx, weight, _):
        if torch.is_grad_enabled():  # create_graph: what is saved here has no graph
            raise RuntimeError("no second derivative: use log_partition_in_logs")
        marginals, counts, last = ctx.saved_tensors
        emissions = marginals * weight[:, None]
        ends = emissions[last, torch.arange(len(last)).to(last.device)]
        transitions = (weight[:, None, None] * counts).sum(0)
        return emissions, None, emissions[0].sum(0), transitions, ends.sum(0)


def log_partition(emissions, mask, start, transitions, end) -> Tensor:
    """log Z (B,), fast: in probabilities if their digits can be trusted, else in logs.

    Its gradient cannot be differentiated again (RuntimeError); that of the plain
    `log_partition_in_logs` can.
    """
    given = emissions, mask, start, transitions, end
    log_z, trusted = LogPartition.apply(*given)
    return log_z if trusted else log_partition_in_logs(*given)


@torch.no_grad()
def posterior(emissions, mask, start, transitions, end) -> Tensor:
    """Probability of each tag at each position, given the whole sequence: (L, B, K)."""
    given = emissions, mask, start, transitions, end
    _, marginals, _, trusted = forward_backward(*given)
    if trusted:
        return marginals
    alphas = forward_scores(emissions, mask, start, transitions)
    both = alphas + backward_scores(emissions, mask, transitions, end)
    return torch.softmax(both, dim=2) * mask[..., None]


@torch.no_grad()
def viterbi(emissions, mask, start, transitions, end) -> list[list[int]]:
    """The path of highest score of each sequence: the forward algorithm with maxima.

    Only scores are kept; the way back asks again, along the best path, where it came
    from. Batch last, because a maximum over rows of B is fast.
    """
    last, step = mask.sum(0) - 1, transitions[:, :, None]
    scores = [emissions[0].T + start[:, None]]  # (K, B)
    for emission in emissions[1:].transpose(1, 2).contiguous():
        scores.append((scores[-1][:, None] + step).amax(0) + emission)
    scores = torch.stack(scores).transpose(1, 2).contiguous()  # (L, B, K)
    into = transitions.T.contiguous()  # into[j] are the scores of coming into j
    final = scores[last, torch.arange(len(last)).to(last.device)] + end
    tags = [final.argmax(1)]
    for score, inside in zip(scores[:-1].flip(0), mask[1:].flip(0), strict=True):
        came = (score + into[tags[-1]]).argmax(1)
        tags.append(torch.where(inside, came, tags[0]))
    paths = torch.stack(tags[::-1], dim=1).tolist()
    return [path[: n + 1] for path, n in zip(paths, last.tolist(), strict=True)]


@torch.no_grad()
def k_best_paths(emissions, mask, start, transitions, end, k: int) -> list[list]:
    """The k paths of highest score of each sequence: lists of (path, score).

    Viterbi that keeps k paths into every tag instead of one. A sequence with fewer
    than k paths gets them all. Raises ValueError for k below 1.
    """
    if k < 1:
        raise ValueError(f"the {k} best paths: k must be at least 1")
    L, B, K = emissions.shape
    stay = torch.arange(k * K, device=emissions.device).view(k, K)
    score = emissions.new_full((B, k, K), -torch.inf)
    score[:, 0] = start + emissions[0]
    history = []
    for emission, inside in zip(emissions[1:], mask[1:], strict=True):
        longer = (score[..., None] + transitions).flatten(1, 2)  # (B, k·K, K)
        best, came = longer.topk(k, dim=1)  # (B, k, K)
        score = torch.where(inside[:, None, None], best + emission[:, None], score)
        history.append(torch.where(inside[:, None, None], came, stay))
    final, place = (score + end).flatten(1).topk(k, dim=1)  # rank · K + tag: (B, k)
    tags = [place % K]
    for came in history[::-1]:
        place = came.flatten(1).gather(1, place)
        tags.append(place % K)
    paths = torch.stack(tags[::-1], dim=2).tolist()  # (B, k, L)
    result = []
    for some, values, n in zip(
        paths, final.tolist(), mask.sum(0).tolist(), strict=True
    ):
        pairs = zip(some, values, strict=True)
        result.append([(path[:n], v) for path, v in pairs if v > -torch.inf])
    return result


def bio_constraints(labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Which label may follow which (K, K; from, to), and which may come first (K,).

    I-x follows only B-x or I-x, and nothing begins with it. Raises ValueError for a
    label that is not O, B-… or I-….

    >>> bio_constraints(["O", "B", "I"])[0].int().tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    kinds = [label.partition("-") for label in labels]
    if strange := {kind for kind, _, _ in kinds} - {"O", "B", "I"}:
        raise ValueError(f"labels begin with {sorted(strange)}, not with O, B or I")
    follows = [
        [to != "I" or (was in "BI" and name == same) for to, _, name in kinds]
        for was, _, same in kinds
    ]
    return torch.tensor(follows), torch.tensor([kind != "I" for kind, _, _ in kinds])


class CRF(nn.Module):
    """A CRF layer with the interface, parameters and state of pytorch-crf 0.7.2.

    Lafferty, McCallum and Pereira 2001. Emissions (L, B, K), tags and mask (L, B), or
    the batch first if `batch_first`. The mask is true on a prefix of each sequence;
    what stands after it (pads, label −100, even nan) does not count. Shapes that do not
    fit, and masks that are no prefixes, raise ValueError; unknown tags IndexError. The
    library has, and this has not, second derivatives of the likelihood and torch.func.
    """

    def __init__(self, num_tags: int, batch_first: bool = False):
        if num_tags <= 0:
            raise ValueError(f"a CRF needs tags, got num_tags = {num_tags}")
        super().__init__()
        self.num_tags, self.batch_first = num_tags, batch_first
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all scores uniformly between −0.1 and 0.1."""
        for scores in self.parameters():
            nn.init.uniform_(scores, -0.1, 0.1)

    def extra_repr(self) -> str:
        return f"num_tags={self.num_tags}"

    def forward(self, emissions, tags, mask=None, reduction: str = "sum") -> Tensor:
        """Log-likelihood of `tags`: log p(y | x) = s(x, y) − log Z, to be maximised.

        reduction: "none" (B,), "sum", "mean" (over sequences) or "token_mean".
        """
        emissions, mask, tags = self._time_first(emissions, mask, tags)
        if reduction not in ("none", "sum", "mean", "token_mean"):
            raise ValueError(f"unknown reduction {reduction!r}")
        scores = self._scores(emissions)
        gold = path_scores(emissions, tags, mask, *scores)
        likelihood = gold - log_partition(emissions, mask, *scores)
        if reduction == "none":
            return likelihood
        count = {"sum": 1, "mean": len(likelihood), "token_mean": mask.sum()}
        return likelihood.sum() / count[reduction]

    def path_score(self, emissions, tags, mask=None) -> Tensor:
        """s(x, y), the score of the path `tags`, before normalising: (B,)."""
        emissions, mask, tags = self._time_first(emissions, mask, tags)
        return path_scores(emissions, tags, mask, *self._scores(emissions))

    def log_partition(self, emissions, mask=None) -> Tensor:
        """log Z: the logarithm of the sum of exp(score) over all paths, (B,)."""
        emissions, mask, _ = self._time_first(emissions, mask)
        return log_partition(emissions, mask, *self._scores(emissions))

    def decode(self, emissions, mask=None) -> list[list[int]]:
        """The best path of each sequence, without pads."""
        emissions, mask, _ = self._time_first(emissions, mask)
        return viterbi(emissions, mask, *self._scores(emissions))

    def k_best(self, emissions, k: int, mask=None) -> list[list]:
        """The k best paths of each sequence as (path, score), best first."""
        emissions, mask, _ = self._time_first(emissions, mask)
        return k_best_paths(emissions, mask, *self._scores(emissions), k)

    def marginals(self, emissions, mask=None) -> Tensor:
        """p(yₜ = j | x) in the shape of the emissions; zero on pads; no gradient."""
        emissions, mask, _ = self._time_first(emissions, mask)
        result = posterior(emissions, mask, *self._scores(emissions))
        return result.transpose(0, 1) if self.batch_first else result

    @torch.no_grad()
    def constrain(self, follows: Tensor, starts: Tensor) -> None:
        """Forbid transitions and first tags where `follows`, `starts` are false.

        Their scores become −10,000. Training leaves them there as long as no gold path
        uses them, since their gradient is zero; weight decay would move them.
        """
        device = self.transitions.device
        self.transitions.masked_fill_(~follows.to(device), FORBIDDEN)
        self.start_transitions.masked_fill_(~starts.to(device), FORBIDDEN)

    def _scores(self, emissions: Tensor) -> list[Tensor]:
        """start, transitions and end in the emissions' number type."""
        scores = self.start_transitions, self.transitions, self.end_transitions
        return [score.to(emissions.dtype) for score in scores]

    def _time_first(self, emissions, mask, tags=None) -> tuple:
        """Emissions (L, B, K), mask and tags (L, B), checked, with zeros on pads."""
        shape = tuple(emissions.shape)
        if len(shape) != 3 or shape[2] != self.num_tags:
            wanted = "B, L" if self.batch_first else "L, B"
            raise ValueError(
                f"emissions of shape {shape} are not ({wanted}, K = {self.num_tags})"
            )
        for name, other in {"tags": tags, "mask": mask}.items():
            if other is not None and tuple(other.shape) != shape[:2]:
                raise ValueError(
                    f"{name} of shape {tuple(other.shape)} do not fit "
                    f"emissions of shape {shape}"
                )
        wide = torch.promote_types(emissions.dtype, self.transitions.dtype)
        emissions = emissions.to(wide)
        if mask is None:
            mask = torch.ones(shape[:2], dtype=torch.bool, device=emissions.device)
        if self.batch_first:
            emissions, mask = emissions.transpose(0, 1), mask.transpose(0, 1)
            tags = None if tags is None else tags.transpose(0, 1)
        mask = mask.bool()
        if not mask[0].all():
            empty = (~mask[0]).sum().item()
            raise ValueError(f"the mask is off at the first step of {empty} sequences")
        if (mask[1:] & ~mask[:-1]).any():
            raise ValueError("the mask has a hole: it must be true on a prefix")
        emissions = emissions.masked_fill(~mask[..., None], 0)
        if tags is not None and tags.numel():
            tags = tags.masked_fill(~mask, 0)
            low, high = tags.aminmax()
            if low < 0 or high >= self.num_tags:
                wrong = low.item() if low < 0 else high.item()
                raise IndexError(f"tag {wrong} is not one of 0…{self.num_tags - 1}")
        return emissions, mask, tags
