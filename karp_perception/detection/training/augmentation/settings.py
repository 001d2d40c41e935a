"""What augmentation does, how often and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, nested, setting


def _share(default: float, description: str) -> float:
    return setting(default, description, low=0.0, high=1.0)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PlaceSettings(Settings):
    """Where `base_link` lies: all sensors together."""

    flip: float = _share(0.5, "share of frames that are mirrored")
    rotation: float = setting(0.3, "largest turn about z", unit="rad", low=0.0, high=3.2)
    any_rotation: float = _share(0.1, "share of frames that are turned to any direction instead")
    scale: float = setting(0.06, "largest change of all lengths, as a share", low=0.0, high=0.5)
    shift: float = setting(0.4, "standard deviation of a shift along x and y", unit="m", low=0.0, high=5.0)
    height: float = setting(0.12, "standard deviation of the height of base_link", unit="m", low=0.0, high=1.0)
    tilt: float = setting(0.012, "standard deviation of roll and of pitch", unit="rad", low=0.0, high=0.1)


@dataclass(frozen=True)
class SweepSettings(Settings):
    """Points: as other lidars would give them."""

    thin_rings: float = _share(0.3, "share of frames with fewer rings: every second or fourth, or another lidar's")
    thin_columns: float = _share(0.2, "share of frames with every second or third column")
    dropout: float = _share(0.3, "share of frames that lose points at random")
    most_dropped: float = _share(0.4, "largest share of points that are lost there")
    noise: float = _share(0.3, "share of frames with noise on ranges")
    noise_m: float = setting(0.04, "largest standard deviation of that noise", unit="m", low=0.0, high=1.0)
    intensity: float = _share(0.5, "share of frames whose intensities are scaled and bent")
    constant_intensity: float = _share(0.25, "share of frames whose intensities are all 0, or all the same")
    camera_view: float = _share(0.25, "share of frames whose points end with a camera's view")
    blind_sector: float = _share(0.05, "share of frames whose lidar sees nothing in a sector")


@dataclass(frozen=True)
class ImageSettings(Settings):
    """Images: other cameras, other light."""

    color: float = _share(0.8, "share of images whose brightness, contrast, saturation and hue change")
    brightness: float = setting(0.35, "largest change of the logarithm of brightness", low=0.0, high=2.0)
    contrast: float = setting(0.3, "largest change of the logarithm of contrast", low=0.0, high=2.0)
    saturation: float = setting(0.5, "largest change of saturation, as a factor about 1", low=0.0, high=1.0)
    hue: float = setting(0.25, "largest turn of the hue", unit="rad", low=0.0, high=3.2)
    grey: float = _share(0.05, "share of images without colour")
    noise: float = _share(0.25, "share of images with noise")
    noise_levels: float = setting(12.0, "largest standard deviation of that noise", unit="grey levels", low=0.0)
    blur: float = _share(0.15, "share of images out of focus or smeared")
    blur_width: float = setting(0.006, "largest spread of blur, as a share of the width", low=0.0, high=0.1)
    jpeg: float = _share(0.15, "share of images that were JPEG")
    lowest_jpeg: int = setting(25, "lowest quality of JPEG", low=1, high=100)
    coarser: float = _share(0.15, "share of images with less resolution")
    most_coarser: float = setting(2.5, "largest factor between pixels there", low=1.0, high=10.0)
    cut_out: float = _share(0.1, "share of images with a hidden rectangle")
    most_cut_out: float = _share(0.12, "largest share of the image that it hides")
    zoom: float = _share(0.4, "share of images that are enlarged about a random place")
    most_zoom: float = setting(1.25, "largest factor there", low=1.0, high=4.0)
    weather: float = _share(0.06, "share of frames in fog, rain, low light, or with dirt on the lens")


@dataclass(frozen=True)
class CalibrationSettings(Settings):
    """What the frame says of its sensors, and what is so."""

    rotation: float = setting(
        0.003, "standard deviation of each angle of a camera's pose", unit="rad", low=0.0, high=0.1
    )
    translation: float = setting(0.015, "standard deviation along each axis of it", unit="m", low=0.0, high=0.5)
    delay: float = setting(
        0.02, "standard deviation of the images' time against the lidar's", unit="s", low=0.0, high=0.5
    )


@dataclass(frozen=True)
class PasteSettings(Settings):
    """Objects of other frames."""

    share: float = _share(0.75, "share of frames that objects are pasted into")
    most: int = setting(9, "largest number of objects in a frame", low=1, high=50)
    tries: int = setting(3, "places that are tried for an object", low=1, high=20)
    gap: float = setting(0.35, "smallest gap to any other box", unit="m", low=0.0, high=5.0)
    least_seen: float = _share(0.5, "share of an object's points, and of its pixels, that nothing may hide")


@dataclass(frozen=True)
class DropSettings(Settings):
    """Sensors that are taken away: the shares that the design asks for."""

    no_images: float = _share(0.25, "share of frames without any image")
    no_lidar: float = _share(0.25, "share of frames without lidar")
    camera: float = _share(0.15, "share of cameras that are missing from the other frames")


@dataclass(frozen=True)
class AugmentationSettings(Settings):
    """Everything that augmentation does. `AugmentationSettings.none()` does nothing at all."""

    place: PlaceSettings = nested(PlaceSettings)
    sweep: SweepSettings = nested(SweepSettings)
    image: ImageSettings = nested(ImageSettings)
    calibration: CalibrationSettings = nested(CalibrationSettings)
    paste: PasteSettings = nested(PasteSettings)
    drop: DropSettings = nested(DropSettings)

    @classmethod
    def none(cls) -> AugmentationSettings:
        """Settings that leave every frame as it is."""
        return cls(
            PlaceSettings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            SweepSettings(
                thin_rings=0.0,
                thin_columns=0.0,
                dropout=0.0,
                noise=0.0,
                intensity=0.0,
                constant_intensity=0.0,
                camera_view=0.0,
                blind_sector=0.0,
            ),
            ImageSettings(
                color=0.0, grey=0.0, noise=0.0, blur=0.0, jpeg=0.0, coarser=0.0, cut_out=0.0, zoom=0.0, weather=0.0
            ),
            CalibrationSettings(0.0, 0.0, 0.0),
            PasteSettings(share=0.0),
            DropSettings(0.0, 0.0, 0.0),
        )
