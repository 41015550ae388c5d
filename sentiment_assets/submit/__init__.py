"""Running the product's commands on a Spark cluster that exists: what is shipped there and how it is called.

Belongs here: the package for the cluster, the driver program, the calls of ``spark-submit`` and ``gcloud``.
Does not belong here: what the commands do (``cli``), or how a session is configured (``spark.session``).
"""
