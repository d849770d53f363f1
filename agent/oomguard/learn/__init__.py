"""Off the device: from recordings and kills to a bundle. Nothing on the device imports this.

In the order in which they may import one another: `label/` grades samples and computes features, `dataset/` reads
recordings, `protocol/` counts alarms and catches, `thresholds/` sets levels per device type, `zoo/` has recipes and
kinds of models, `simulate/` invents runs, `train/` fits in folds, `evaluate/` compares with simpler rules; `bundle/`
makes what is shipped of all that, `report/` draws it. `lab/` records real programs, and `lab/loop/` guards them.
"""
