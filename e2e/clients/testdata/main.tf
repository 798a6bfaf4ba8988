# The state is in a Secret of the cluster, its lock in a Lease; what it describes
# is Terraform's own, so that no provider is needed.
terraform {
  backend "kubernetes" {
    secret_suffix = "clients"
  }
}

variable "level" {
  default = "low"
}

resource "terraform_data" "settings" {
  input = var.level
}

output "level" {
  value = terraform_data.settings.output
}
