#!/usr/bin/env python3
"""Writes an entry into the timeline of an order, from outside: a record on order.commands by a producer that knows nothing of Settle's
streams. Prints topic, partition and offset of every record it sent."""

import argparse
import os
import sys
import uuid
from datetime import datetime, timezone

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gen"))

from kafka import KafkaProducer  # noqa: E402
from settle.order.v1 import commands_pb2  # noqa: E402

TOPIC = "order.commands"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--order", required=True, help="id of the order; also the key, so that its records keep their order")
    parser.add_argument("--event", default="CourierCalled")
    parser.add_argument("--detail", default="")
    parser.add_argument("--id", default=str(uuid.uuid4()), help="the same id again has no effect")
    parser.add_argument("--times", type=int, default=1, help="how often it is sent")
    parser.add_argument("--garbage", metavar="HEX", help="these bytes in place of a message")
    args = parser.parse_args()

    now = datetime.now(timezone.utc)
    if args.garbage is None:
        fact = commands_pb2.RecordProgress(order_id=args.order, event=args.event, detail=args.detail)
        fact.occurred_at.FromDatetime(now)
        value = fact.SerializeToString()
    else:
        value = bytes.fromhex(args.garbage)
    headers = {
        "ce_specversion": "1.0",
        # Source and id together tell a repeat from a new event.
        "ce_id": args.id,
        "ce_source": "/courier-desk",
        "ce_type": commands_pb2.RecordProgress.DESCRIPTOR.full_name,
        "ce_time": now.isoformat(),
        "content-type": "application/protobuf",
    }

    # The partition is left to the client: like Java's, it takes the murmur2 hash of the key.
    producer = KafkaProducer(bootstrap_servers=args.brokers.split(","), acks="all", allow_auto_create_topics=False)
    try:
        for _ in range(args.times):
            sent = producer.send(
                TOPIC, key=args.order.encode(), value=value, headers=[(name, text.encode()) for name, text in headers.items()]
            ).get(timeout=30)
            print(sent.topic, sent.partition, sent.offset)
    finally:
        producer.close()


if __name__ == "__main__":
    main()
