"""Fusion of depth maps into a truncated signed distance field (Curless and Levoy, SIGGRAPH 1996).

The rules are those of Open3D's scalable volume, by which Depth Anything 3 and SpatialBench fuse:
blocks of 16 voxels a side are opened near the points of every 4th pixel, a voxel takes the depth
of the nearest pixel, and distances are averaged over the frames that saw it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from distill3r_core.errors import GeometryError

BLOCK = 16  # voxels on a side of a block
STRIDE = 4  # pixels between the points that open blocks
_MARGIN = 1e-4  # pixels within which a projection counts as outside the image
_CORNERS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
_MOST_BLOCKS = 2_000_000  # 16 GiB of voxels; a scene in wrong units would ask for more


@dataclass(frozen=True)
class VolumeRules:
    """How fine a volume is; lengths in the unit of depth."""

    voxel: float
    truncation: float
    farthest: float  # depth beyond this is left out


class TsdfVolume:
    """A volume that depth maps are fused into, block by block."""

    def __init__(self, rules: VolumeRules) -> None:
        self.rules = rules
        self._index: dict[tuple[int, int, int], int] = {}
        self._distance = np.zeros((0, BLOCK, BLOCK, BLOCK), dtype=np.float32)
        self._weight = np.zeros((0, BLOCK, BLOCK, BLOCK), dtype=np.float32)

    def integrate(
        self,
        depth: Float[np.ndarray, "H W"],
        intrinsics: Float[np.ndarray, "3 3"],
        world_from_cam: Float[np.ndarray, "4 4"],
        *,
        center: float = 0.5,
    ) -> None:
        """Fuse a depth map.

        Args:
            depth: z in the camera's frame; 0, negative and not finite where unknown.
            intrinsics: K of the map.
            world_from_cam: Pose, in the unit of depth.
            center: Where in its pixel a depth was measured.

        Raises:
            GeometryError: The points spread over more blocks than a scene has.
        """
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0.0)
        depth = np.where(depth <= self.rules.farthest, depth, 0.0)
        focal = intrinsics[0, 0], intrinsics[1, 1]
        middle = intrinsics[0, 2] - center, intrinsics[1, 2] - center
        blocks = self._touched(depth, focal, middle, world_from_cam)
        if not len(blocks):
            return
        rows = self._open(blocks)
        height, width = depth.shape
        cam_from_world = np.linalg.inv(world_from_cam)
        steps = (np.arange(BLOCK) + 0.5) * self.rules.voxel
        inside = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        local = inside @ cam_from_world[:3, :3].T
        for block, row in zip(blocks, rows, strict=True):
            corner = block * BLOCK * self.rules.voxel
            x, y, z = (local + (cam_from_world[:3, :3] @ corner + cam_from_world[:3, 3])).T
            with np.errstate(divide="ignore", invalid="ignore"):
                u = focal[0] * x / z + middle[0] + 0.5
                v = focal[1] * y / z + middle[1] + 0.5
            seen = (z > 0) & (u >= _MARGIN) & (u < width - _MARGIN)
            seen &= (v >= _MARGIN) & (v < height - _MARGIN)
            column = np.where(seen, u, 0).astype(np.int64)
            line = np.where(seen, v, 0).astype(np.int64)
            measured = depth[line, column]
            ray = np.sqrt(
                1 + ((column - middle[0]) / focal[0]) ** 2 + ((line - middle[1]) / focal[1]) ** 2
            )
            distance = (measured - z) * ray
            seen &= (measured > 0) & (distance > -self.rules.truncation)
            values = np.minimum(1.0, distance[seen] / self.rules.truncation)
            voxels, weights = self._distance[row].reshape(-1), self._weight[row].reshape(-1)
            before = weights[seen]
            voxels[seen] = (voxels[seen] * before + values) / (before + 1)
            weights[seen] = before + 1

    def triangles(self) -> Float[np.ndarray, "T 3 3"]:
        """The surface at distance 0 between voxels that were all seen, by marching tetrahedra."""
        found = [self._block_triangles(np.array(block)) for block in self._index]
        return np.concatenate(found) if found else np.zeros((0, 3, 3))

    def _touched(
        self,
        depth: Float[np.ndarray, "H W"],
        focal: tuple[float, float],
        middle: tuple[float, float],
        pose: Float[np.ndarray, "4 4"],
    ) -> Int[np.ndarray, "B 3"]:
        """Blocks within the truncation of the points of every 4th pixel."""
        v, u = np.mgrid[: depth.shape[0] : STRIDE, : depth.shape[1] : STRIDE]
        z = depth[v, u]
        kept = z > 0
        x, y = (u - middle[0]) / focal[0] * z, (v - middle[1]) / focal[1] * z
        points = np.stack([x, y, z], -1)[kept] @ pose[:3, :3].T + pose[:3, 3]
        if not len(points):
            return np.zeros((0, 3), dtype=np.int64)
        side = BLOCK * self.rules.voxel
        low = np.floor((points - self.rules.truncation) / side).astype(np.int64)
        high = np.floor((points + self.rules.truncation) / side).astype(np.int64)
        reach = int((high - low).max()) + 1
        offsets = np.stack(np.meshgrid(*[np.arange(reach)] * 3, indexing="ij"), -1).reshape(-1, 3)
        found: set[tuple[int, int, int]] = set()
        for offset in offsets:
            block = low + offset
            near = np.unique(block[(block <= high).all(axis=1)], axis=0)
            found.update(map(tuple, near.tolist()))
        return np.array(sorted(found))

    def _open(self, blocks: Int[np.ndarray, "B 3"]) -> list[int]:
        """Rows of blocks in the storage, which grows as needed."""
        keys = [(int(x), int(y), int(z)) for x, y, z in blocks]
        for key in keys:
            self._index.setdefault(key, len(self._index))
        if len(self._index) > _MOST_BLOCKS:
            raise GeometryError(
                f"a volume of {self.rules.voxel:g} a voxel needs more than {_MOST_BLOCKS} blocks"
            )
        missing = len(self._index) - len(self._distance)
        if missing > 0:
            grown = np.zeros((max(missing, len(self._distance)), BLOCK, BLOCK, BLOCK), np.float32)
            self._distance = np.concatenate([self._distance, grown])
            self._weight = np.concatenate([self._weight, grown])
        return [self._index[key] for key in keys]

    def _block_triangles(self, block: Int[np.ndarray, "3"]) -> Float[np.ndarray, "T 3 3"]:
        side = BLOCK + 1  # with the first voxels of the blocks beyond
        distance = np.zeros((side, side, side), np.float32)
        weight = np.zeros((side, side, side), np.float32)
        for corner in _CORNERS:
            row = self._index.get(tuple((block + corner).tolist()))
            if row is None:
                continue
            ours = tuple(slice(BLOCK, None) if far else slice(0, BLOCK) for far in corner)
            theirs = tuple(slice(0, 1) if far else slice(None) for far in corner)
            distance[ours], weight[ours] = self._distance[row][theirs], self._weight[row][theirs]
        origin = (block * BLOCK + 0.5) * self.rules.voxel
        return surface(distance, weight > 0, voxel=self.rules.voxel) + origin


def surface(
    values: Float[np.ndarray, "X Y Z"], known: Bool[np.ndarray, "X Y Z"], *, voxel: float
) -> Float[np.ndarray, "T 3 3"]:
    """Triangles where values on a grid cross 0, between points that are all known.

    Each cube is cut into six tetrahedra about its main diagonal (Doi and Koide, 1991).

    Args:
        voxel: Distance between neighboring points of the grid, the first of which is the origin.
    """
    shape = np.array(values.shape) - 1
    corners = [np.s_[x : x + shape[0], y : y + shape[1], z : z + shape[2]] for x, y, z in _CORNERS]
    whole = np.logical_and.reduce([known[corner] for corner in corners])
    negative = np.stack([values[corner] < 0 for corner in corners])
    cubes = np.argwhere(whole & negative.any(0) & ~negative.all(0))
    if not len(cubes):
        return np.zeros((0, 3, 3))
    points = cubes[:, None] + _CORNERS  # (M, 8, 3)
    at = values[points[..., 0], points[..., 1], points[..., 2]]
    tetrahedra, levels = points[:, _TETRAHEDRA].reshape(-1, 4, 3), at[:, _TETRAHEDRA].reshape(-1, 4)
    case = ((levels < 0) * np.array([1, 2, 4, 8])).sum(1)
    found = []
    for number, triangles in enumerate(_CASES):
        chosen = case == number
        for edges in triangles:
            ends = np.array(edges)  # (3, 2)
            first, second = (np.abs(levels[chosen][:, ends[:, end]]) for end in (0, 1))
            total = first + second
            share = np.where(total > 0, first / np.where(total > 0, total, 1), 0.5)[..., None]
            a, b = (tetrahedra[chosen][:, ends[:, end]] for end in (0, 1))
            found.append(a + share * (b - a))
    return np.concatenate(found) * voxel


# Six tetrahedra of a cube, by its corners; all share the diagonal from corner 0 to corner 7.
_TETRAHEDRA = np.array(
    [[0, 1, 3, 7], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7], [0, 4, 5, 7], [0, 5, 1, 7]]
)


def _cases() -> list[list[tuple[tuple[int, int], ...]]]:
    """Triangles of a tetrahedron, as its edges, by which of its corners are negative."""
    cases = []
    for number in range(16):
        inside = [corner for corner in range(4) if number >> corner & 1]
        outside = [corner for corner in range(4) if not number >> corner & 1]
        if len(inside) in (1, 3):
            (lone,), others = (inside, outside) if len(inside) == 1 else (outside, inside)
            cases.append([tuple((lone, other) for other in others)])
        elif len(inside) == 2:
            (a, b), (c, d) = inside, outside
            cases.append([((a, c), (a, d), (b, c)), ((a, d), (b, d), (b, c))])
        else:
            cases.append([])
    return cases


_CASES = _cases()


def sample_surface(
    triangles: Float[np.ndarray, "T 3 3"], count: int, *, seed: int = 0
) -> Float[np.ndarray, "M 3"]:
    """Points spread evenly over triangles; none where there are no triangles."""
    sides = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    areas = np.linalg.norm(np.cross(*sides), axis=1)
    if not areas.sum() > 0:
        return np.zeros((0, 3))
    random = np.random.default_rng(seed)
    chosen = random.choice(len(triangles), count, p=areas / areas.sum())
    root, along = np.sqrt(random.random(count))[:, None], random.random(count)[:, None]
    a, b, c = (triangles[chosen, corner] for corner in range(3))
    return (1 - root) * a + root * (1 - along) * b + root * along * c
