#!/usr/bin/env python3
"""Places an order and watches it to its end. Exit code 0: confirmed; 1: it ended otherwise; 2: it could not be placed or watched."""

import argparse
import os
import sys
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gen"))

import grpc  # noqa: E402
from settle.order.v1 import service_pb2, service_pb2_grpc, types_pb2  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="127.0.0.1:50051", help="gRPC address of Settle")
    parser.add_argument("--sku", default="prod-A")
    parser.add_argument("--quantity", type=int, default=2)
    parser.add_argument("--payment-token", default="", help="for the sandbox, for example tok_declined")
    parser.add_argument("--key", default=str(uuid.uuid4()), help="idempotency key: the same one again is the same order")
    args = parser.parse_args()

    with grpc.insecure_channel(args.target) as channel:
        orders = service_pb2_grpc.OrderServiceStub(channel)
        request = service_pb2.CreateOrderRequest(
            idempotency_key=args.key, customer_id="python", currency="USD", payment_token=args.payment_token
        )
        request.items.add(sku=args.sku, quantity=args.quantity)
        # The key makes a repeat harmless, so a lost answer is no reason to give up.
        created = orders.CreateOrder(request, timeout=10, wait_for_ready=True)
        print("order", created.order_id)

        told = 0
        for change in orders.WatchOrder(service_pb2.WatchOrderRequest(order_id=created.order_id), timeout=60):
            order = change.order
            for entry in order.timeline[told:]:
                print(f"  {entry.at.ToJsonString():<30} {entry.event} {entry.detail}".rstrip())
            told = len(order.timeline)
        print(types_pb2.OrderStatus.Name(order.status).removeprefix("ORDER_STATUS_"), order.total, order.currency)
        return 0 if order.status == types_pb2.ORDER_STATUS_CONFIRMED else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        sys.exit(2)
