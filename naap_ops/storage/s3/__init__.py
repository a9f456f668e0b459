"""An S3 bucket as storage. Nothing here is imported before an `s3://` URL is opened: boto3 costs a third of a second.

``client`` knows the bucket, ``errors`` translates, ``objects`` writes and proves one object, ``multipart`` one object in parts,
``staging`` a set of them, ``marker`` tells living writers from dead ones, ``download`` reads, ``storage`` is the contract.
"""
