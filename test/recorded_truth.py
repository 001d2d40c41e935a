"""What is known of the recorded drive."""

LEAD_REAR_M = {0: 7.97, 6: 7.58, 12: 7.27, 18: 6.81, 24: 6.23, 29: 5.9}
"""Rear face of the car ahead: x in `base_link` by frame, measured from the lidar by hand."""
