"""Records of drives made by hand."""

import numpy as np

from karp_perception.evaluation.drive_record import DriveRecord

DT = 0.1
FRONT, REAR, WIDTH = 2.9, 1.9, 1.9


def record(ego, actors=(), yaw=None, names=None, width=WIDTH, **more):
    """A record of an ego (T, 3) of x, y, speed, and of actors {id: (T, 6) of x, y, yaw, speed, length, width}."""
    ego = np.asarray(ego, float)
    n = len(ego)
    rows = [
        (k, number, *way[k, :3], *way[k, 4:6], way[k, 3] * np.cos(way[k, 2]), way[k, 3] * np.sin(way[k, 2]))
        for k in range(n)
        for number, way in dict(actors).items()
    ]
    columns = np.array(rows, float).reshape(-1, 9).T
    return DriveRecord(
        time=DT * np.arange(n),
        x=ego[:, 0],
        y=ego[:, 1],
        yaw=np.zeros(n) if yaw is None else yaw,
        speed=ego[:, 2],
        steering=np.zeros(n),
        decision=np.full(n, "CRUISE"),
        reason=("CRUISE",) * n,
        front=FRONT,
        rear=REAR,
        width=width,
        route=np.array([[-50.0, 0.0], [500.0, 0.0]]),
        actor_tick=columns[0].astype(int),
        actor_id=columns[1].astype(int),
        actor_label=np.zeros(columns.shape[1], int),
        actor_x=columns[2],
        actor_y=columns[3],
        actor_yaw=columns[4],
        actor_length=columns[5],
        actor_width=columns[6],
        actor_vx=columns[7],
        actor_vy=columns[8],
        visibility=np.ones(columns.shape[1]),
        names=names or {},
        **more,
    )


def straight(speed, n=60, x=0.0):
    t = DT * np.arange(n)
    return np.column_stack([x + speed * t, np.zeros(n), np.full(n, speed)])


def actor(x, y, yaw, speed, n=60, length=4.0, width=1.8):
    t = DT * np.arange(n)
    x, y = x + speed * np.cos(yaw) * t, y + speed * np.sin(yaw) * t
    return np.column_stack([x, y, *(np.full(n, v) for v in (yaw, speed, length, width))])
