"""A two-node Ray cluster on the loopback address, in separate processes.

``python ray_nodes.py FOLDER`` prints the head's address, and shuts the cluster down when its
standard input is closed. Each node has one CPU and its own user name, which its runs record.
"""

import os
import sys
from pathlib import Path

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Use loopback addresses as given.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
USERS = ("node-1", "node-2")


def main(folder: str) -> None:
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": 1,
        "object_store_memory": 80 * 2**20,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": False,
    }
    # Ray writes the address to a folder ray/ in here, which it makes for its own nodes only.
    os.environ["RAY_TMPDIR"] = folder
    (Path(folder) / "ray").mkdir()
    os.environ["LOGNAME"] = USERS[0]
    cluster = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": folder})
    os.environ["LOGNAME"] = USERS[1]
    cluster.add_node(**node)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    main(sys.argv[1])
