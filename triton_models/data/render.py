"""Renders one 3-D model from several sides into cut-outs with exact alpha; always a process of its own.

    python -m triton_models.data.render < JOB     (JOB: the JSON of `RenderJob`)

VTK is a large C++ library that a broken model can bring down; its parent (views.py) then loses this model only.
Drawing is done in software (OSMesa), so that neither a display nor a GPU is needed. Every view is drawn before black
and before white: the difference of the two is the exact alpha, also of glass and of leaves cut out of a texture.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUPERSAMPLING = 2
FILL = 0.92  # of the frame that the model's bounding box takes
VIEW_ANGLE = 28.0
AMBIENT, SPECULAR = 0.25, 0.05


@dataclass(frozen=True)
class View:
    """Where camera and main light stand, in degrees around and above the model; 0 is its front."""

    azimuth: float
    elevation: float
    light_azimuth: float
    light_elevation: float


@dataclass(frozen=True)
class RenderJob:
    """What the process is to do.

    Attributes:
        obj: the model; its MTL has the same name, or is the only one beside it.
        rotation: row by row, 3 x 3, or None.
        size: side of the square frame in pixels.
        views: one cut-out each.
        out: folder for `00.png`, `01.png`, …: RGBA with straight alpha, cut to the model.
    """

    obj: str
    rotation: tuple[float, ...] | None
    size: int
    views: tuple[View, ...]
    out: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RenderJob:
        fields = json.loads(text)
        return cls(**{**fields, "views": tuple(View(**view) for view in fields["views"])})


def main() -> None:
    from PIL import Image  # noqa: PLC0415  this module is imported by the parent for its types alone

    job = RenderJob.from_json(sys.stdin.read())
    stage = Stage(job)
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(job.views):
        Image.fromarray(stage.draw(view)).save(out / f"{number:02}.png")


class Stage:
    """The model in front of a camera, with a main light and a weaker one at the camera."""

    def __init__(self, job: RenderJob) -> None:
        from vtkmodules.vtkIOImport import vtkOBJImporter  # noqa: PLC0415  heavy, and only the child needs it
        from vtkmodules.vtkRenderingCore import vtkRenderer  # noqa: PLC0415
        from vtkmodules.vtkRenderingOpenGL2 import vtkOSOpenGLRenderWindow  # noqa: PLC0415

        obj = Path(job.obj)
        own = obj.with_suffix(".mtl")
        materials = [own] if own.is_file() else sorted(obj.parent.glob("*.mtl"))[:1]
        self._window = vtkOSOpenGLRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(job.size * SUPERSAMPLING, job.size * SUPERSAMPLING)
        self._renderer = vtkRenderer()
        self._renderer.AutomaticLightCreationOff()
        self._window.AddRenderer(self._renderer)
        importer = vtkOBJImporter()
        importer.SetFileName(str(obj))
        for material in materials:
            importer.SetFileNameMTL(str(material))
        importer.SetTexturePath(str(obj.parent))
        importer.SetRenderWindow(self._window)
        importer.Update()
        self._matte()
        self._turn(job.rotation)

    def _matte(self) -> None:
        """One finish for all: the libraries' own ambient and specular terms burn half of the models out to white."""
        for actor in _actors(self._renderer):
            finish = actor.GetProperty()
            finish.SetAmbientColor(finish.GetDiffuseColor())
            finish.SetAmbient(AMBIENT)
            finish.SetDiffuse(1.0 - AMBIENT)
            finish.SetSpecular(SPECULAR)

    def _turn(self, rotation: tuple[float, ...] | None) -> None:
        from vtkmodules.vtkCommonMath import vtkMatrix4x4  # noqa: PLC0415

        if rotation is None:
            return
        matrix = vtkMatrix4x4()
        for place, value in enumerate(rotation):
            matrix.SetElement(place // 3, place % 3, value)
        for actor in _actors(self._renderer):
            actor.SetUserMatrix(matrix)

    def draw(self, view: View) -> NDArray[np.uint8]:
        """The cut-out: uint8 [height, width, 4]; a single clear pixel where nothing is to be seen."""
        self._aim(view)
        self._light(view)
        black, white = self._shot(0.0), self._shot(1.0)
        alpha = np.clip(1.0 - (white - black).mean(axis=2), 0.0, 1.0)
        return cut_out(black, alpha)

    def _aim(self, view: View) -> None:
        camera = self._renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*_direction(view.azimuth, view.elevation))
        camera.SetViewUp(0, 1, 0)
        camera.SetViewAngle(VIEW_ANGLE)
        self._renderer.ResetCamera()
        camera.Zoom(FILL / max(self._extent(), 1e-6))
        self._renderer.ResetCameraClippingRange()

    def _extent(self) -> float:
        """How far the bounding box's corners reach from the frame's centre; 1 is the frame's edge."""
        bounds = self._renderer.ComputeVisiblePropBounds()
        far = 0.0
        for x in bounds[:2]:
            for y in bounds[2:4]:
                for z in bounds[4:]:
                    self._renderer.SetWorldPoint(x, y, z, 1.0)
                    self._renderer.WorldToView()
                    far = max(far, *(abs(part) for part in self._renderer.GetViewPoint()[:2]))
        return far

    def _light(self, view: View) -> None:
        from vtkmodules.vtkRenderingCore import vtkLight  # noqa: PLC0415

        self._renderer.RemoveAllLights()
        main_light = vtkLight()
        main_light.SetPosition(*_direction(view.light_azimuth, view.light_elevation))
        main_light.SetIntensity(0.7)
        fill = vtkLight()
        fill.SetLightTypeToHeadlight()
        fill.SetIntensity(0.4)
        self._renderer.AddLight(main_light)
        self._renderer.AddLight(fill)

    def _shot(self, background: float) -> NDArray[np.float32]:
        """One picture before a grey: float32 [size, size, 3] in 0..1, averaged down from the supersampled frame."""
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray  # noqa: PLC0415

        self._renderer.SetBackground(background, background, background)
        self._window.Render()
        width, height = self._window.GetSize()
        raw = vtkUnsignedCharArray()
        self._window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, raw)
        frame = np.asarray(raw, np.float32).reshape(height, width, 4)[::-1, :, :3]
        size = height // SUPERSAMPLING
        blocks = frame.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3)
        shrunk: NDArray[np.float32] = blocks.mean(axis=(1, 3)) / np.float32(255)
        return shrunk


def _actors(renderer: Any) -> list[Any]:
    actors = renderer.GetActors()
    return [actors.GetItemAsObject(number) for number in range(actors.GetNumberOfItems())]


def cut_out(premultiplied: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Straight-alpha RGBA, cut to where alpha is not zero.

    Args:
        premultiplied: float32 [h, w, 3] in 0..1, the model before black.
        alpha: float32 [h, w] in 0..1.

    Returns:
        uint8 [height, width, 4]; [1, 1, 4] of zeros where alpha is zero everywhere.
    """
    seen = alpha > 0.5 / 255
    if not seen.any():
        return np.zeros((1, 1, 4), np.uint8)
    colours = np.clip(premultiplied / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    pixels = np.concatenate([colours, alpha[..., None]], axis=2)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(np.rint(cut * 255), np.uint8)


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    around, above = np.deg2rad(azimuth), np.deg2rad(elevation)
    return float(np.sin(around) * np.cos(above)), float(np.sin(above)), float(np.cos(around) * np.cos(above))


if __name__ == "__main__":
    main()
