"""What is known of the patient besides the images: orders, priors, problems."""
