# A bucket for Larder, its lifecycle, and the policy that Larder needs; attach the policy to the role of your pods or
# machines. policy.json is the one spelling of the permissions, for people without Terraform too.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "expire_days" {
  description = "Days after which what a prefix holds is deleted, counted from when it was stored."
  type        = map(number)
  default = {
    "artifact/" = 30
    "please/"   = 30
  }
}

resource "aws_s3_bucket" "cache" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "cache" {
  bucket                  = aws_s3_bucket.cache.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "cache" {
  bucket = aws_s3_bucket.cache.id

  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  dynamic "rule" {
    for_each = var.expire_days
    content {
      id     = "expire-${trimsuffix(rule.key, "/")}"
      status = "Enabled"
      filter {
        prefix = rule.key
      }
      expiration {
        days = rule.value
      }
    }
  }
}

resource "aws_iam_policy" "larder" {
  name_prefix = "larder-"
  description = "What Larder needs of its bucket"
  policy      = replace(file("${path.module}/policy.json"), "BUCKET", aws_s3_bucket.cache.id)
}

output "policy_arn" {
  description = "Attach this to Larder's role."
  value       = aws_iam_policy.larder.arn
}

output "store" {
  description = "The value of --store."
  value       = "s3://${aws_s3_bucket.cache.id}"
}
