"""The applications: training, evaluation, pictures, reports and the command line."""
