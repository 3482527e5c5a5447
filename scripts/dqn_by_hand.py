"""What one writes by hand for deep Q-learning, to compare with: lists of transitions, a loop in CleanRL's structure."""

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from torch import Tensor, nn
from torch.nn import functional

EVERY = 4  # agent steps an update
ACTIONS = 4  # of Breakout
SIDE = 84


class Frames:
    """A list of (frame, action, reward, end), each frame held once: what fits into memory. Stacks are put together
    transition by transition."""

    def __init__(self, transitions: int, frames: np.ndarray) -> None:
        self.held = [(frames[i % len(frames)].copy(), i % ACTIONS, 0.0, i % 200 == 199) for i in range(transitions)]

    def stack(self, i: int) -> np.ndarray:
        """The last four frames up to i, zeros before an episode began."""
        found = [self.held[i][0]]
        while len(found) < 4 and i > 0 and not self.held[i - 1][3]:
            i -= 1
            found.append(self.held[i][0])
        return np.stack([np.zeros((SIDE, SIDE), np.uint8)] * (4 - len(found)) + found[::-1])

    def sample(self) -> tuple[np.ndarray, ...]:
        """A batch of 32."""
        chosen = [random.randrange(len(self.held) - 1) for _ in range(32)]
        _, actions, rewards, ends = zip(*(self.held[i] for i in chosen))
        now, then = (np.stack([self.stack(i + more) for i in chosen]) for more in (0, 1))
        return now, np.array(actions), np.array(rewards), np.array(ends), then


class Stacks:
    """A list of (stack, action, reward, end, next stack), four times the memory."""

    def __init__(self, transitions: int, frames: np.ndarray) -> None:
        stacks = [np.stack([frames[(i + k) % len(frames)] for k in range(4)]) for i in range(transitions + 1)]
        self.held = [(stacks[i], i % ACTIONS, 0.0, i % 200 == 199, stacks[i + 1]) for i in range(transitions)]

    def sample(self) -> tuple[np.ndarray, ...]:
        """A batch of 32."""
        return tuple(np.stack(part) for part in zip(*random.sample(self.held, 32)))


class Network(nn.Module):
    """The network as one writes it by hand, on frames from 0 to 255."""

    def __init__(self, filters: Sequence[int], hidden: int) -> None:
        super().__init__()
        a, b, c = filters
        self.layers = nn.Sequential(
            nn.Conv2d(4, a, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(a, b, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(b, c, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(49 * c, hidden),
            nn.ReLU(),
            nn.Linear(hidden, ACTIONS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Values of the actions."""
        return self.layers(x / 255.0)


class Arrays:
    """A replay memory of whole stacks in arrays, the next stack taken from the next place."""

    def __init__(self, size: int) -> None:
        self.stacks = np.zeros((size, 4, SIDE, SIDE), np.uint8)
        self.actions, self.rewards, self.ends = np.zeros(size, np.int64), np.zeros(size, np.float32), np.zeros(size)
        self.size, self.count = size, 0

    def add(self, stack: np.ndarray, following: np.ndarray, action: int, reward: float, end: bool) -> None:
        """Remember a transition."""
        i = self.count % self.size
        self.stacks[i], self.stacks[(i + 1) % self.size] = stack, following
        self.actions[i], self.rewards[i], self.ends[i] = action, reward, end
        self.count += 1

    def sample(self, n: int, device: torch.device) -> tuple[Tensor, ...]:
        """A batch as tensors on the device."""
        chosen = np.random.randint(0, min(self.count, self.size - 1), size=n)
        parts = (self.stacks[chosen], self.actions[chosen], self.rewards[chosen], self.ends[chosen])
        return tuple(torch.from_numpy(part).to(device) for part in (*parts, self.stacks[(chosen + 1) % self.size]))


def learn(network: Network, target: Network, start: int, size: int, device: torch.device) -> Iterator[None]:
    """The structure that CleanRL's dqn_atari has: one environment, actions one by one, an update of the squared TD
    error by Adam at every fourth step, the target copied every thousand. An item for each agent step behind `start`
    random ones; `size` transitions are kept."""
    envs = AtariVectorEnv("breakout", 1, episodic_life=True, num_threads=1)
    network, target = network.to(device), target.to(device)
    target.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    memory = Arrays(size)
    seen, _ = envs.reset(seed=0)
    for step in itertools.count():
        epsilon = 1.0 if step < start else 0.1
        if random.random() < epsilon:
            actions = np.array([random.randrange(ACTIONS)])
        else:
            with torch.no_grad():
                actions = network(torch.from_numpy(seen).to(device)).argmax(1).cpu().numpy()
        following, rewards, over, cut, _ = envs.step(actions)
        memory.add(seen[0], following[0], actions[0], rewards[0], over[0] or cut[0])
        seen = following
        if step < start:
            continue
        if step % EVERY == 0:
            stacks, taken, gains, ends, nexts = memory.sample(32, device)
            with torch.no_grad():
                goal = gains + 0.99 * target(nexts).amax(1) * (1 - ends.float())
            loss = functional.mse_loss(network(stacks).gather(1, taken[:, None])[:, 0], goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 1000 == 0:
            target.load_state_dict(network.state_dict())
        yield
