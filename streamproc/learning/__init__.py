"""What is learned from responders: features, the model that predicts, the learner that makes it, its calibration."""
