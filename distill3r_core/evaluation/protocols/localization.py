"""`localization`: the place of each camera in a scene that the model was trained on."""

from distill3r_core.evaluation.localization.localization_metrics import LOCALIZATION_METRICS
from distill3r_core.evaluation.localization.localized_windows import PAIRS, REFERENCES
from distill3r_core.evaluation.protocols.frame_rules import DisjointFrames
from distill3r_core.evaluation.protocols.record import Protocol
from distill3r_core.evaluation.protocols.sequence_alignments import NO_CLOUDS

_TOGETHER = 20  # frames that are read at once; a scene student sees each by itself

LOCALIZATION = Protocol(
    name="localization",
    frames=DisjointFrames(
        _TOGETHER,
        text="all test frames (without --data the run's validation frames) that it was not "
        "trained on, each by itself",
    ),
    alignment=NO_CLOUDS,
    metrics=tuple(metric.name for metric in LOCALIZATION_METRICS),
    grid=(112, 154),
    aggregation="pooled",
    source="held-out",
    rules={
        "pose": "PnP with RANSAC on the predicted coordinates with the calibrated K, up to 5000 "
        "pixels of the model's grid, 10 pixels of an image 640 wide, doubled (up to 80) while "
        "fewer than half of them agree and twice as much finds 1.5 times as many; a view "
        "without a pose is infinitely far",
        "scene": "of students of scenes, the one that was learned in the frame of its poses. Of a "
        "student of several scenes it is that of the data's name: a view that is placed in another "
        "one is infinitely far",
        "other students": f"each view as the anchor of one pass with the {REFERENCES} training "
        "frames of its scene that it is most like (cosine of the "
        "encoder's mean features, or frames spread evenly where it has none); a "
        f"robust similarity of up to {PAIRS} pixels carries what is predicted of these onto the "
        "teacher's points in the world, and the view's points along. Models without training "
        "frames there have no figures",
        "coordinates": "in the frame of the data's poses, without any alignment; MSE is over the "
        "three coordinates, in squared radii (root mean square) of the training points and in m^2",
    },
)
